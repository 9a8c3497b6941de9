// SPDX-License-Identifier: GPL-2.0-only
// Calls in progress. A call that zaps gigabytes takes longer than an audit, and its event comes at
// its end. Until then the page tables differ from the shadow, so an audit asks which calls run.

#define EVERYWHERE (1ULL << 62)  // a length
#define LONG (64ULL << 20)       // the kernel zaps 4 to 20 GiB in a second, and fills 1 to 4

// A call of a thread that changes [start, start + length) of a process or, if `owner` is 0, a file
// that any process may map.
struct progress {
    u64 start;
    u64 length;
    u32 owner;
    u32 unused;
};

BPF_HASH(in_progress, u32, struct progress, MAX_THREADS);

static __always_inline void call_begins(u32 owner, u64 start, u64 length) {
    u32 tid = bpf_get_current_pid_tgid();
    struct progress progress = {.start = start, .length = length, .owner = owner};
    in_progress.update(&tid, &progress);
}

// Comes after the event of the call, so that an audit misses neither.
static __always_inline void call_ended(void) {
    u32 tid = bpf_get_current_pid_tgid();
    in_progress.delete(&tid);
}
