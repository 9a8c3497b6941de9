// SPDX-License-Identifier: GPL-2.0-only
// Rare calls that change VMAs or entries: names, policies and seals of memory, SysV shared memory
// and other mappings that the kernel makes itself, userfaultfd, and writes into the memory of
// another process.

#ifndef __NR_map_shadow_stack
#define __NR_map_shadow_stack 453
#endif
#ifndef __NR_mseal
#define __NR_mseal 462
#endif
#define IORING_REGISTER_BUFFERS 0
#define PR_SET_MM 35
#define PR_SET_MEMORY_MERGE 67
#define PR_SET_VMA 0x53564d41
#define MPOL_MODE 0xff
#define NAME_BYTES 80  // ANON_VMA_NAME_MAX_LEN
#define VECTORS 16
#define LABELLED(which, value) ((which) << LABEL_BITS | ((value) & ((1U << LABEL_BITS) - 1)))

// A hash of `bits` bits. It is never 0, which stands for none.
static __always_inline u32 mixed(u64 value, u32 bits) {
    u32 hash = (value * 0x9E3779B97F4A7C15ULL) >> (64 - bits);
    return hash ? hash : 1;
}

struct name {
    u64 words[NAME_BYTES / 8];
};

// A hash of a string in the caller's memory; 0: none.
static __always_inline u32 name_at(u64 address) {
    struct name name = {};
    u64 hash = 0;
    if (!address || bpf_probe_read_user_str(&name, sizeof(name), (void *)address) <= 0)
        return 0;
    for (u32 i = 0; i < NAME_BYTES / 8; i++)
        hash = (hash ^ name.words[i]) * 0x9E3779B97F4A7C15ULL;
    return mixed(hash, NAME_BITS);
}

// A hash of the requested memory policy; 0: the default policy.
static __always_inline u32 policy_at(u64 mode, u64 nodes, u64 most) {
    u64 word = 0;
    if (!(mode & MPOL_MODE))
        return 0;
    if (nodes && most)
        bpf_probe_read_user(&word, sizeof(word), (void *)nodes);
    if (most < 64)
        word &= (1ULL << most) - 1;
    return mixed(word << 16 ^ (mode & 0xffff), POLICY_BITS);
}

// The event of a call of a traced process; kind NO_EVENT: none.
static __always_inline void read_rare(struct event *e, struct call *call, long result) {
    bool failed = result < 0 && result >= -MAX_ERRNO;
    u64 id = call->id;
    e->kind = failed ? NO_EVENT : KIND_DOUBT;
    e->aux = DOUBT_MAPPINGS;
    e->address = call->a;
    e->length = page_up(call->b);
    if (id == __NR_prctl) {
        e->address = call->c;
        e->length = page_up(call->d);
        if (call->a == PR_SET_VMA) {
            e->kind = failed && result != -ENOMEM ? NO_EVENT : KIND_LABEL;
            e->aux = LABELLED(LABEL_NAME, name_at(call->e));
        } else if (call->a == PR_SET_MEMORY_MERGE && !failed) {
            e->kind = KIND_LABEL;
            e->aux = LABELLED(LABEL_MERGE_ANY, call->b != 0);
            e->address = e->length = 0;
        } else if (call->a == PR_SET_MM && !failed) {
            e->address = e->length = 0;
        } else {
            e->kind = NO_EVENT;
        }
    } else if (id == __NR_mbind) {
        e->kind = KIND_LABEL;
        e->aux = LABELLED(LABEL_POLICY, policy_at(call->c, call->d, call->e));
        if (failed) {
            e->kind = KIND_DOUBT;
            e->aux = DOUBT_CALL;
        }
    } else if (failed) {
        return;
    } else if (id == __NR_mseal) {
        e->kind = KIND_LABEL;
        e->aux = LABELLED(LABEL_SEAL, 0);
    } else if (id == __NR_shmdt || id == __NR_io_destroy) {
        e->kind = KIND_DETACH;
        e->length = 0;
    } else if (id == __NR_shmat || id == __NR_map_shadow_stack) {
        e->aux = DOUBT_ATTACHED;
        e->address = result;
        e->length = PAGE;
    } else if (id == __NR_io_setup) {
        bpf_probe_read_user(&e->address, sizeof(e->address), (void *)call->b);
        e->aux = DOUBT_ATTACHED;
        e->length = PAGE;
    } else if (id == __NR_remap_file_pages) {
        e->aux = DOUBT_CALL;
    }  // set_mempolicy_home_node
}

static __always_inline int rare_ends(u64 user, long result) {
    struct target *target = current_target();
    if (!target)
        return 0;
    struct call call;
    struct event e = {};
    read_call(&call, user);
    read_rare(&e, &call, result);
    if (e.kind != NO_EVENT)
        emit(target, e.kind, e.address, e.length, e.aux);
    return 0;
}

// The kernel accesses these ranges of a process's memory, and makes missing pages.
static __always_inline void fill_vectors(struct target *target, u64 vectors, u64 count, u32 why) {
    u32 tid = bpf_get_current_pid_tgid();
    report_loss(target, target->owner, tid);
    for (u32 i = 0; i < VECTORS; i++) {
        struct range range;
        if (i >= count)
            return;
        if (bpf_probe_read_user(&range, sizeof(range), (void *)(vectors + i * sizeof(range))))
            break;
        u64 first = range.start & -PAGE;
        submit(target, tid, KIND_FILL, first, page_up(range.start + range.length) - first, why,
               RESERVE_TRIES_IN_LOOP);
    }
    if (count > VECTORS)
        submit(target, tid, KIND_DOUBT, 0, 0, why, RESERVE_TRIES_IN_LOOP);
}

// vmsplice and IORING_REGISTER_BUFFERS pin pages of the caller; process_vm_readv and
// process_vm_writev access pages of another process, which makes no call.
static __always_inline int pins_end(u64 user, long result) {
    struct call call;
    read_call(&call, user);
    bool remote = call.id == __NR_process_vm_readv || call.id == __NR_process_vm_writev;
    bool buffers = call.id == __NR_io_uring_register;
    if (result < 0 || (buffers && call.b != IORING_REGISTER_BUFFERS))
        return 0;
    struct target *target = remote ? target_by_pid(call.a) : current_target();
    if (!target)
        return 0;
    u64 vectors = remote ? call.d : buffers ? call.c : call.b;
    u64 count = remote ? call.e : buffers ? call.d : call.c;
    fill_vectors(target, vectors, count, remote ? DOUBT_REMOTE : DOUBT_DIRECT_IO);
    return 0;
}

// userfaultfd, used by any process: it changes the address space in which it was made.
#define UFFD_MAGIC 0xAA
enum { UFFD_REGISTER, UFFD_UNREGISTER, UFFD_WAKE, UFFD_COPY, UFFD_ZEROPAGE, UFFD_MOVE };
enum { UFFD_WRITEPROTECT = 6, UFFD_CONTINUE, UFFD_POISON };
#define UFFD_MODES 7
#define UFFD_MODE_BITS 3

static __always_inline u64 user_word(u64 address) {
    u64 word = 0;
    bpf_probe_read_user(&word, sizeof(word), (void *)address);
    return word;
}

// The number of bytes that the call has completed, which it also reports when it fails.
static __always_inline u64 bytes_done(u32 command, u64 given) {
    bool has_source = command == UFFD_COPY || command == UFFD_MOVE;
    s64 done = user_word(given + (has_source ? 32 : 24));
    return done > 0 ? done : 0;
}

static __always_inline int ioctl_ends(u64 user, long result) {
    struct call call;
    read_call(&call, user);
    u32 command = call.b & 0xff;
    if (((call.b >> 8) & 0xff) != UFFD_MAGIC || command > UFFD_POISON || command == UFFD_WAKE)
        return 0;
    u64 context = field(file_of(call.a), FILE_PRIVATE);
    struct target *target = target_of(field(context, UFFD_MM));
    if (!target)
        return 0;
    u64 start = user_word(call.c), second = user_word(call.c + 8), length = second;
    u16 kind = KIND_DOUBT;
    u32 aux = DOUBT_USERFAULTFD;
    if (command == UFFD_REGISTER || command == UFFD_UNREGISTER) {
        u32 modes = command == UFFD_REGISTER ? user_word(call.c + 16) & UFFD_MODES : 0;
        u32 which = modes ? mixed(context, USERFAULT_BITS) : 0;
        if (!result) {
            kind = KIND_LABEL;
            aux = LABELLED(LABEL_USERFAULT, which << UFFD_MODE_BITS | modes);
        }
    } else if (command != UFFD_WRITEPROTECT) {
        length = bytes_done(command, call.c);
        kind = command == UFFD_MOVE ? KIND_DOUBT : KIND_FILL;
    }
    if (!length)
        return 0;
    if (command == UFFD_MOVE)
        emit(target, KIND_DOUBT, second, length, aux);
    emit(target, kind, start, length, aux);
    return 0;
}

METHODS_OF(rare, rare_ends)
METHODS_OF(pins, pins_end)
METHODS_OF(ioctl, ioctl_ends)
METHODS_OF(file_call, file_call_ends)
METHODS_OF(cut, cut_ends)
