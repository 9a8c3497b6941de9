// SPDX-License-Identifier: GPL-2.0-only
// How an event leaves: the traced processes, the ring, and what does not fit into it.
//
// The files of this folder are one program, in the order that tracer/probes/stream.py names. Each
// says what its events are, and then takes them in every way that a kernel may offer: at
// functions (fentry and fexit, or kprobe and kretprobe), at tracepoints, at raw
// tracepoints. What is attached is chosen by trying. No kernel headers; struct offsets
// come from BTF, and with the kinds of events as macros from the loader. Events leave in
// the layout of shadow/events.py.

#include <asm/mman.h>
#include <asm/ptrace.h>
#include <asm/unistd.h>

#define RESERVE_TRIES 64
#define RESERVE_TRIES_IN_LOOP 4
#define MAX_THREADS 8192  // of traced processes, in one kind of function at a time

struct event {
    u64 time;
    u64 address;
    u64 length;
    u32 tgid;
    u32 tid;
    u16 kind;
    u16 cpu;
    u32 aux;
};

// A traced process. `owner` is the process whose page tables it uses: itself,
// or after vfork and the like its parent, and then `mm` is the address space that
// it shares until its execve builds a new one. `space` is its own address space, known
// from its first event on. Once it is `gone`, its pid may belong to another. Where it
// `follows`, its children are traced from their first instruction on. `lost` only grows;
// `told` is the part of it that has reached the stream.
struct target {
    u32 owner;
    u32 gone;
    u64 follows;
    u64 mm;
    u64 space;
    u64 lost;
    u64 told;
};

BPF_RINGBUF_OUTPUT(ring, RING_PAGES);
BPF_HASH(targets, u32, struct target, MAX_TARGETS);
// Whose an address space is, for what others do to it: khugepaged, reclaim.
BPF_HASH(spaces, u64, u32, MAX_TARGETS);

static __always_inline u64 page_up(u64 length) { return (length + 4095) & ~4095ULL; }

// A reserve fails when the ring is full, but not only then: where the ring's lock
// is an rqspinlock ("bpf: Convert ringbuf map to rqspinlock", 2025), a guest's CPU
// that finds it held may be told at once that this is a deadlock, which it is not
// (repaired upstream by "rqspinlock: Fix TAS fallback lock entry creation").
// Seen on 6.18: 11 of 5.6 million, each refused within 1 us, with the ring nearly
// empty. The holder needs some 100 ns, or longer where the host took its CPU away.
//
// Before 6.4 the verifier forgets that a reserved event is not null when that is asked
// twice, so all is done where it is asked once.
static __always_inline bool send(u32 owner, u32 tid, u16 kind, u64 address, u64 length, u32 aux,
                                 u32 tries) {
    for (u32 i = 0; i < tries; i++) {
        struct event *e = ring.ringbuf_reserve(sizeof(struct event));
        if (!e)
            continue;
        e->time = bpf_ktime_get_ns();
        e->address = address;
        e->length = length;
        e->tgid = owner;
        e->tid = tid;
        e->kind = kind;
        e->cpu = bpf_get_smp_processor_id();
        e->aux = aux;
        ring.ringbuf_submit(e, BPF_RB_NO_WAKEUP);
        return true;
    }
    return false;
}

// Loss is told as a running total, so that two CPUs telling it at once do no
// harm; the reader takes the difference.
static __always_inline void tell_loss(struct target *target, u32 owner, u32 tid) {
    u64 total = target->lost;
    if (total != target->told && send(owner, tid, KIND_LOSS, 0, total, 0, RESERVE_TRIES))
        target->told = total;
}

static __always_inline void lose_one(struct target *target) {
    __sync_fetch_and_add(&target->lost, 1);
}

static __always_inline void submit(struct target *target, u32 tid, u16 kind, u64 address,
                                   u64 length, u32 aux, u32 tries) {
    if (!send(target->owner, tid, kind, address, length, aux, tries))
        lose_one(target);
}

static __always_inline void emit(struct target *target, u16 kind, u64 address, u64 length,
                                 u32 aux) {
    u32 tid = bpf_get_current_pid_tgid();
    tell_loss(target, target->owner, tid);
    submit(target, tid, kind, address, length, aux, RESERVE_TRIES);
}

static __always_inline u64 field(u64 base, u32 offset) {
    u64 value = 0;
    bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + offset));
    return value;
}

static __always_inline u64 current_mm(void) { return field(bpf_get_current_task(), TASK_MM); }

static __always_inline struct target *target_by_pid(u32 tgid) {
    struct target *target = targets.lookup(&tgid);
    return target && !target->gone ? target : 0;
}

static __always_inline struct target *current_target(void) {
    u32 tgid = bpf_get_current_pid_tgid() >> 32;
    struct target *target = target_by_pid(tgid);
    if (!target)
        return 0;
    if (target->mm)
        return target->mm == current_mm() ? target : 0;
    if (!target->space) {
        u64 space = current_mm();
        spaces.update(&space, &tgid);
        target->space = space;
    }
    return target;
}

static __always_inline struct target *target_of(u64 mm) {
    u32 *tgid = spaces.lookup(&mm);
    return tgid ? target_by_pid(*tgid) : 0;
}

static __always_inline void forget_space(struct target *target) {
    u64 space = target->space;
    if (space)
        spaces.delete(&space);
    target->space = 0;
}

// Both since v5.15, and from there on for programs at tracepoints and kprobes, too.
static void *(*current_task_btf)(void) = (void *)158;
static u64 (*task_pt_regs)(void *task) = (void *)175;

// The registers of user mode of the thread that runs.
static __always_inline u64 user_regs(void) { return task_pt_regs(current_task_btf()); }

// The system call that it is in.
static __always_inline u64 user_call(void) {
    return field(user_regs(), __builtin_offsetof(struct pt_regs, orig_rax));
}

// Whether that is a 32-bit one, whose number means another call: int 0x80 in a 64-bit program.
#define TS_COMPAT 2

static __always_inline bool in_compat_call(void) {
    return field(bpf_get_current_task(), TASK_STATUS) & TS_COMPAT;
}

// What a function was given, kept by the kprobe at its entry for the kretprobe at its return;
// a thread can be in several, for a fault may reclaim. A kernel that runs out of room for
// returns leaves some out: what is found here still when the thread comes again is such a
// one, and its event is lost.
enum function { A_CALL, A_FAULT, A_COLLAPSE, AN_UNMAPPING, FUNCTIONS };

struct visit {
    u32 tid;
    u32 function;
};

struct given {
    u64 a, b, c, d;
};

BPF_HASH(visits, struct visit, struct given, MAX_THREADS * FUNCTIONS);

static __always_inline void keep(struct target *target, enum function function,
                                 struct given given) {
    struct visit visit = {.tid = bpf_get_current_pid_tgid(), .function = function};
    if (!target)
        return;
    bool left = visits.lookup(&visit);
    if (visits.update(&visit, &given) || left)
        lose_one(target);
}

static __always_inline bool take_back(enum function function, struct given *given) {
    struct visit visit = {.tid = bpf_get_current_pid_tgid(), .function = function};
    struct given *kept = visits.lookup(&visit);
    if (!kept)
        return false;
    *given = *kept;
    visits.delete(&visit);
    return true;
}

// Of a function that a fexit program was attached to (both since v5.17).
static long (*func_arg)(void *ctx, u32 number, u64 *value) = (void *)183;
static long (*func_ret)(void *ctx, u64 *result) = (void *)184;

static __always_inline u64 returned(u64 *ctx) {
    u64 result = 0;
    func_ret(ctx, &result);
    return result;
}
