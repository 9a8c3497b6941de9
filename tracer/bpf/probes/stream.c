// SPDX-License-Identifier: GPL-2.0-only
// The event stream: the traced processes, the ring, and lost events.
//
// The files of this folder form one program, in the order in tracer/probes/stream.py. Each file
// makes its events, and has functions for every method that a kernel may support: functions
// (fentry and fexit, or kprobe and kretprobe), tracepoints, raw tracepoints. The loader tries
// the methods. The program needs no kernel headers: the loader passes struct offsets, from BTF,
// and kinds of events as macros.

#define RESERVE_TRIES 64
#define RESERVE_TRIES_IN_LOOP 4

// A traced process. `owner` is the process that owns its page tables: the process itself or,
// after a call such as vfork, its parent. In the second case `mm` is the shared address space,
// until an execve builds a new one. `space` is the process's own address space, known from its
// first event on. Once the process is `gone`, the kernel may reuse its pid. If it `follows`, its
// children are traced from their first instruction on. `lost` only grows; `reported` is the part
// of it that has reached the stream.
struct target {
    u32 owner;
    u32 gone;
    u64 follows;
    u64 mm;
    u64 space;
    u64 lost;
    u64 reported;
};

BPF_RINGBUF_OUTPUT(ring, RING_PAGES);
BPF_HASH(targets, u32, struct target, MAX_TARGETS);
// The pid of an address space, for changes by others: khugepaged, reclaim.
BPF_HASH(spaces, u64, u32, MAX_TARGETS);

// A reserve fails if the ring is full, but not only then. If the ring's lock is an rqspinlock
// ("bpf: Convert ringbuf map to rqspinlock", 2025), a guest's CPU that finds the lock held may
// get a deadlock error at once although there is no deadlock (repaired upstream by "rqspinlock:
// Fix TAS fallback lock entry creation"). Seen on 6.18: 11 of 5.6 million, each refused within
// 1 us, with the ring nearly empty. The holder needs about 100 ns, or longer if the host
// preempted its CPU.
//
// Before 6.4, the verifier forgets that a reserved event is not null after a second check, so
// the code checks it once and does everything there.
//
// `time` is the time of the event: given or, unless `timed`, taken here.
static __always_inline bool send(u32 owner, u32 tid, u16 kind, u64 address, u64 length, u32 aux,
                                 u32 tries, bool timed, u64 *time) {
    for (u32 i = 0; i < tries; i++) {
        struct event *e = ring.ringbuf_reserve(sizeof(struct event));
        if (!e)
            continue;
        if (!timed)
            *time = bpf_ktime_get_ns();
        e->time = *time;
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

// A LOSS event has the running total, so that two CPUs may report it at once. The reader takes
// the difference.
static __always_inline void report_loss(struct target *target, u32 owner, u32 tid) {
    u64 total = target->lost, time;
    if (total != target->reported &&
        send(owner, tid, KIND_LOSS, 0, total, 0, RESERVE_TRIES, false, &time))
        target->reported = total;
}

static __always_inline void lose_one(struct target *target) {
    __sync_fetch_and_add(&target->lost, 1);
}

static __always_inline void submit(struct target *target, u32 tid, u16 kind, u64 address,
                                   u64 length, u32 aux, u32 tries) {
    u64 time;
    if (!send(target->owner, tid, kind, address, length, aux, tries, false, &time))
        lose_one(target);
}

static __always_inline void emit_with(enum stack_wish wish, struct target *target, u16 kind,
                                      u64 address, u64 length, u32 aux) {
    u32 tid = bpf_get_current_pid_tgid();
    u64 time;
    report_loss(target, target->owner, tid);
    if (!send(target->owner, tid, kind, address, length, aux, RESERVE_TRIES, false, &time))
        lose_one(target);
    else if (wish != NO_STACK)
        take_stack(target->owner, wish, kind, time, address);
}

static __always_inline void emit(struct target *target, u16 kind, u64 address, u64 length,
                                 u32 aux) {
    emit_with(has_stack(kind, aux) ? MAYBE : NO_STACK, target, kind, address, length, aux);
}

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

// The arguments of a function, which the kprobe at its entry keeps for the kretprobe at its
// return. A thread can be in several functions, because a fault may reclaim. The kernel skips
// returns if it runs out of memory for them: if the arguments of an earlier call are still here
// when the thread enters the function again, the event of that call is lost.
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

// Arguments and result of the function of a fexit program (both exist since v5.17).
static long (*func_arg)(void *ctx, u32 number, u64 *value) = (void *)183;
static long (*func_ret)(void *ctx, u64 *result) = (void *)184;

static __always_inline u64 returned(u64 *ctx) {
    u64 result = 0;
    func_ret(ctx, &result);
    return result;
}
