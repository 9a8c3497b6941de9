// Probes on page faults and on the calls that change page tables.
//
// Raw tracepoints only: no kernel headers, no kprobes, no tracefs. Events leave
// in the layout of shadow/events.py. Compile-time constants come from the loader
// (tracer/probes.py): the ring's size, the kinds of events, struct offsets from BTF.

#include <asm/mman.h>
#include <asm/ptrace.h>
#include <asm/unistd.h>

#define MAX_ERRNO 4095
#define ENOMEM 12
#define EINVAL 22
#define KERNEL_FAULT (1U << 31)
#define PARTLY (1U << 31)
#define IOVECS 1024  // UIO_MAXIOV
#define RESERVE_TRIES 64
#define RESERVE_TRIES_IN_LOOP 4

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
// it shares until its execve builds a new one. Once it is `gone`, its pid may belong to
// another. `lost` only grows; `told` is the part of it that has reached the stream.
struct target {
    u32 owner;
    u32 gone;
    u64 mm;
    u64 lost;
    u64 told;
};

BPF_RINGBUF_OUTPUT(ring, RING_PAGES);
BPF_HASH(targets, u32, struct target, MAX_TARGETS);

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

static __always_inline void submit(struct target *target, u32 tid, u16 kind, u64 address,
                                   u64 length, u32 aux, u32 tries) {
    if (!send(target->owner, tid, kind, address, length, aux, tries))
        __sync_fetch_and_add(&target->lost, 1);
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

static __always_inline struct target *current_target(void) {
    u32 tgid = bpf_get_current_pid_tgid() >> 32;
    struct target *target = targets.lookup(&tgid);
    if (!target || target->gone)
        return 0;
    if (target->mm && target->mm != field(bpf_get_current_task(), TASK_MM))
        return 0;
    return target;
}

static __always_inline int on_fault(u64 address, u64 error, u32 mode) {
    struct target *target = current_target();
    if (target && address < USER_LIMIT)
        emit(target, KIND_FAULT, address, 0, (u32)error | mode);
    return 0;
}

// (unsigned long address, struct pt_regs *regs, unsigned long error_code)
int on_page_fault_user(struct bpf_raw_tracepoint_args *ctx) { return on_fault(ctx->args[0], ctx->args[2], 0); }

int on_page_fault_kernel(struct bpf_raw_tracepoint_args *ctx) {
    return on_fault(ctx->args[0], ctx->args[2], KERNEL_FAULT);
}

struct call {
    u64 a, b, c, d, e;
};

static __always_inline void read_call(struct call *call, struct pt_regs *user) {
    struct pt_regs regs;
    bpf_probe_read_kernel(&regs, sizeof(regs), user);
    call->a = regs.rdi;
    call->b = regs.rsi;
    call->c = regs.rdx;
    call->d = regs.r10;
    call->e = regs.r8;
}

// (struct pt_regs *regs, long id): only calls that give addresses away before
// they return are of interest here.
int on_sys_enter(struct bpf_raw_tracepoint_args *ctx) {
    u64 id = ctx->args[1];
    if (id != __NR_munmap && id != __NR_mremap)
        return 0;
    struct target *target = current_target();
    if (!target)
        return 0;
    struct call call;
    read_call(&call, (struct pt_regs *)ctx->args[0]);
    if (id == __NR_munmap)
        emit(target, KIND_UNMAP_BEGIN, call.a, page_up(call.b), 0);
    else
        emit(target, KIND_REMAP_FROM, call.a, page_up(call.b), call.d);
    return 0;
}

// Calls over a range with holes have done part of their work when they fail:
// madvise passes over the holes (ENOMEM) but stops at a VMA that refuses
// (EINVAL), mprotect and mlock stop at the first hole (ENOMEM). Sources:
// mm/madvise.c, madvise_walk_vmas; mm/mprotect.c; mm/mlock.c.
static __always_inline bool zapped(long result) {
    return result == 0 || result == -ENOMEM || result == -EINVAL;
}

static __always_inline void on_advice(struct target *target, u64 start, u64 length, u32 advice,
                                      long result) {
    if (start & 4095)
        return;
    length = page_up(length);
    if (advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED) {
        if (zapped(result))
            emit(target, KIND_DONTNEED, start, length, advice);
    } else if (advice == MADV_FREE) {
        if (zapped(result))
            emit(target, KIND_FREE, start, length, advice);
    } else if (advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE) {
        emit(target, KIND_POPULATE, start, length, advice);
    } else if (result == 0 || result == -ENOMEM) {
        if (advice == MADV_REMOVE)
            emit(target, KIND_TRUNCATE, start, length, advice);
        else
            emit(target, KIND_ADVISE, start, length, advice);
    }
}

struct range {
    u64 start;
    u64 length;
};

// Zaps are accepted for the caller's own memory only (mm/madvise.c,
// process_madvise_remote_valid), so no pidfd need be looked up. `result` is the
// number of bytes advised: the vectors count until it is used up. The verifier
// follows at most 8192 branches in a row, so the loop has few.
static __always_inline void on_process_madvise(struct target *target, struct call *call,
                                               long result) {
    u32 advice = call->d;
    if (advice != MADV_DONTNEED && advice != MADV_DONTNEED_LOCKED && advice != MADV_FREE)
        return;
    u16 kind = advice == MADV_FREE ? KIND_FREE : KIND_DONTNEED;
    u32 tid = bpf_get_current_pid_tgid();
    long left = result;
    tell_loss(target, target->owner, tid);
    for (u32 i = 0; i < IOVECS; i++) {
        struct range range;
        if (i >= call->c || left <= 0)
            return;
        if (bpf_probe_read_user(&range, sizeof(range), (void *)(call->b + i * sizeof(range))))
            return;
        submit(target, tid, kind, range.start, page_up(range.length), advice,
               RESERVE_TRIES_IN_LOOP);
        left -= range.length;
    }
}

// (struct pt_regs *regs, long ret): the registers still hold the arguments. Every call of
// every process comes here, so what most of them are is asked first.
int on_sys_exit(struct bpf_raw_tracepoint_args *ctx) {
    struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
    long result = ctx->args[1];
    u64 id = 0;
    bpf_probe_read_kernel(&id, sizeof(id), &regs->orig_rax);
    if (id != __NR_madvise && id != __NR_munmap && id != __NR_mmap && id != __NR_brk &&
        id != __NR_mprotect && id != __NR_pkey_mprotect && id != __NR_mremap &&
        id != __NR_process_madvise && id != __NR_mlock && id != __NR_mlock2 &&
        id != __NR_munlock && id != __NR_mlockall && id != __NR_munlockall)
        return 0;
    struct target *target = current_target();
    if (!target)
        return 0;
    struct call call;
    read_call(&call, regs);
    bool failed = result < 0 && result >= -MAX_ERRNO;
    u32 partly = failed ? PARTLY : 0;
    if (id == __NR_madvise) {
        on_advice(target, call.a, call.b, call.c, result);
    } else if (id == __NR_munmap) {
        emit(target, KIND_UNMAP, call.a, failed ? 0 : page_up(call.b), 0);
    } else if (id == __NR_mremap) {
        emit(target, KIND_REMAP_TO, failed ? call.a : result, failed ? 0 : page_up(call.c), 0);
    } else if (failed && result != -ENOMEM) {
        return 0;
    } else if (id == __NR_mprotect || id == __NR_pkey_mprotect) {
        emit(target, KIND_PROTECT, call.a, page_up(call.b), (u32)call.c | partly);
    } else if (id == __NR_mlock || id == __NR_mlock2) {
        u64 start = call.a & ~4095ULL;
        u32 flags = id == __NR_mlock2 ? call.c : 0;
        emit(target, KIND_LOCK, start, page_up(call.a + call.b) - start, flags | partly);
    } else if (id == __NR_munlock) {
        u64 start = call.a & ~4095ULL;
        emit(target, KIND_UNLOCK, start, page_up(call.a + call.b) - start, partly);
    } else if (failed) {
        return 0;
    } else if (id == __NR_mmap) {
        emit(target, KIND_MAP, result, page_up(call.b),
             (call.c & 0xff) | ((u32)call.d << MAP_FLAGS_SHIFT));
    } else if (id == __NR_brk) {
        if ((call.a == 0) || (u64)result == call.a)
            emit(target, KIND_BRK, result, 0, 0);
    } else if (id == __NR_process_madvise) {
        on_process_madvise(target, &call, result);
    } else if (id == __NR_mlockall) {
        emit(target, KIND_LOCK, 0, 0, call.a);
    } else {
        emit(target, KIND_UNLOCK, 0, 0, 0);
    }
    return 0;
}

// (struct task_struct *parent, struct task_struct *child)
int on_sched_process_fork(struct bpf_raw_tracepoint_args *ctx) {
    struct target *parent = current_target();
    if (!parent)
        return 0;
    u32 tgid = bpf_get_current_pid_tgid() >> 32;
    u32 child = field(ctx->args[1], TASK_TGID);
    if (child == tgid)
        return 0;  // a thread
    u64 mm = field(ctx->args[0], TASK_MM);
    if (mm == field(ctx->args[1], TASK_MM)) {
        struct target sharing = {.owner = parent->owner, .mm = mm};
        targets.update(&child, &sharing);
    } else {
        emit(parent, KIND_FORK, child, 0, 0);
    }
    return 0;
}

// (struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
int on_sched_process_exec(struct bpf_raw_tracepoint_args *ctx) {
    u32 tgid = bpf_get_current_pid_tgid() >> 32;
    struct target *target = targets.lookup(&tgid);
    if (!target || target->gone)
        return 0;
    if (target->owner == tgid)
        emit(target, KIND_EXEC, 0, 0, 0);
    else
        targets.delete(&tgid);  // it stops sharing
    return 0;
}

// (struct task_struct *task): after the address space is gone
int on_sched_process_exit(struct bpf_raw_tracepoint_args *ctx) {
    u32 tgid = bpf_get_current_pid_tgid() >> 32;
    struct target *target = targets.lookup(&tgid);
    if (!target || target->gone)
        return 0;
    u64 signal = field(ctx->args[0], TASK_SIGNAL);
    if ((u32)field(signal, SIGNAL_LIVE) != 0)
        return 0;  // other threads live on
    if (target->owner != tgid) {
        targets.delete(&tgid);
        return 0;
    }
    emit(target, KIND_EXIT, 0, 0, 0);
    target->gone = 1;
    return 0;
}
