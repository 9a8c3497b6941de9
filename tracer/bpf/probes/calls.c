// SPDX-License-Identifier: GPL-2.0-only
// The system calls that change page tables. The user-mode registers hold the arguments until a
// call returns, so a call makes one event, at its return. Calls that release addresses before
// they return also make an event at their entry. shadow/call_rules.py maps calls to events and
// is the source of the kinds and masks.

#define ENOMEM 12
#define EINVAL 22
#define IOVECS 1024  // UIO_MAXIOV
#define SYSTEM_CALLS 512
#define MREMAP_FIXED 2
#define KNOWN_MAP_FLAGS (MAP_FLAGS_MASK & ~IGNORED_MAP_FLAGS)

// A call over a range with holes fails after part of its work: madvise skips holes (ENOMEM) but
// stops at a VMA that refuses the advice (EINVAL); mprotect and mlock stop at the first hole
// (ENOMEM). Sources: mm/madvise.c, madvise_walk_vmas; mm/mprotect.c; mm/mlock.c.
static __always_inline bool zapped(long result) {
    return result == 0 || result == -ENOMEM || result == -EINVAL;
}

static __always_inline u16 kind_of_advice(u64 start, u32 advice, long result) {
    if (start & (PAGE - 1))
        return NO_EVENT;
    if (advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED)
        return zapped(result) ? KIND_DONTNEED : KIND_DOUBT;
    if (advice == MADV_FREE)
        return zapped(result) ? KIND_FREE : KIND_DOUBT;
    if (advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE)
        return KIND_POPULATE;
    if (result != 0 && result != -ENOMEM)
        return KIND_DOUBT;
    return advice == MADV_REMOVE ? KIND_TRUNCATE : KIND_OF_OTHER_ADVICE;
}

// The kernel refuses a range with an end that wraps around, before it changes anything.
static __always_inline bool wraps(u64 start, u64 length) {
    u64 rounded = page_up(length);
    return rounded < length || start + rounded < start;
}

struct range {
    u64 start;
    u64 length;
};

// `result` is the number of advised bytes: the vectors count until it is used up. The verifier
// follows at most 8192 consecutive branches, so the loop has few.
static __always_inline void on_process_madvise(struct target *target, struct call *call,
                                               long result, enum stack_wish wish) {
    u32 advice = call->d;
    u16 kind = KIND_ADVISE;
    if (advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED)
        kind = KIND_DONTNEED;
    else if (advice == MADV_FREE)
        kind = KIND_FREE;
    u32 tid = bpf_get_current_pid_tgid();
    long left = result;
    u64 time = bpf_ktime_get_ns();  // all events of the call have it, and so has its stack
    report_loss(target, target->owner, tid);
    if (wish != NO_STACK)
        take_stack(target->owner, wish, kind, time, 0);
    for (u32 i = 0; i < IOVECS; i++) {
        struct range range;
        if (i >= call->c || left <= 0)
            return;
        if (bpf_probe_read_user(&range, sizeof(range), (void *)(call->b + i * sizeof(range))))
            return;
        if (!send(target->owner, tid, kind, range.start, page_up(range.length), advice,
                  RESERVE_TRIES_IN_LOOP, true, &time))
            lose_one(target);
        left -= range.length;
    }
}

// The event of a call that has ended. The caller emits it in one place, because the code that
// emits an event is most of a program.
static __always_inline void read_event(struct event *e, struct call *call, long result) {
    bool failed = result < 0 && result >= -MAX_ERRNO;
    bool refused = failed && wraps(call->a, call->b);
    u64 id = call->id;
    e->kind = NO_EVENT;
    e->address = call->a;
    e->length = page_up(call->b);
    e->aux = 0;
    if (id == __NR_madvise) {
        if (refused)
            return;
        e->aux = call->c;
        e->kind = kind_of_advice(call->a, e->aux, result);
        if (e->kind == KIND_DOUBT)
            e->aux = DOUBT_CALL;
    } else if (id == __NR_munmap) {
        e->kind = KIND_OF_MUNMAP;
        e->length = failed ? 0 : e->length;
    } else if (id == __NR_mremap) {
        e->kind = KIND_OF_MREMAP;
        e->address = failed ? call->a : result;
        e->length = failed ? 0 : page_up(call->c);
    } else if (refused) {
        return;
    } else if (failed && result != -ENOMEM) {
        bool ranged = id != __NR_mmap && id != __NR_brk && id != __NR_mlockall;
        e->kind = ranged && id != __NR_munlockall ? KIND_DOUBT : NO_EVENT;
        e->aux = DOUBT_CALL;
    } else if (id == __NR_mprotect || id == __NR_pkey_mprotect) {
        e->kind = KIND_OF_MPROTECT;
        e->aux = (call->c & PROT_MASK) | (failed ? PARTLY : 0);
        if (id == __NR_pkey_mprotect) {
            e->kind = KIND_OF_PKEY_MPROTECT;
            e->aux |= (u32)((call->d + 1) & PKEY_MASK) << PKEY_SHIFT;
        }
    } else if (id == __NR_mlock || id == __NR_mlock2 || id == __NR_munlock) {
        e->kind = id == __NR_munlock ? KIND_OF_MUNLOCK : KIND_OF_MLOCK;
        e->address = call->a & -PAGE;
        e->length = page_up(call->a + call->b) - e->address;
        e->aux = (id == __NR_mlock2 ? call->c : 0) | (failed ? PARTLY : 0);
    } else if (failed) {
        return;
    } else if (id == __NR_mmap) {
        e->kind = KIND_OF_MMAP;
        e->address = result;
        e->aux = (call->c & PROT_MASK) | ((u32)call->d & KNOWN_MAP_FLAGS) << MAP_FLAGS_SHIFT;
    } else if (id == __NR_brk) {
        e->kind = call->a == 0 || (u64)result == call->a ? KIND_OF_BRK : NO_EVENT;
        e->address = result;
        e->length = 0;
    } else {  // mlockall, munlockall
        e->kind = id == __NR_mlockall ? KIND_OF_MLOCKALL : KIND_OF_MUNLOCKALL;
        e->aux = id == __NR_mlockall ? call->a : 0;
        e->address = e->length = 0;
    }
}

// Whether a call may take longer than an audit. The length of a brk is not known.
static __always_inline bool takes_long(struct call *call) {
    u64 id = call->id, length = call->b;
    if (id == __NR_brk || id == __NR_mlockall)
        return true;
    return length >= LONG || (id == __NR_mremap && call->c >= LONG);
}

// The range that the call may change is everything if its arguments do not show it.
static __always_inline void note_progress(struct target *target, struct call *call) {
    u64 id = call->id;
    bool ranged = id == __NR_madvise || id == __NR_munmap || id == __NR_mlock || id == __NR_mlock2 ||
                  (id == __NR_mmap && call->d & MAP_FIXED);
    call_begins(target->owner, ranged ? call->a & -PAGE : 0,
                ranged ? page_up(call->b) + PAGE : EVERYWHERE);
}

static __always_inline void on_call_begin(struct target *target, struct call *call) {
    bool moves = call->id == __NR_mremap;
    if (takes_long(call))
        note_progress(target, call);
    if (moves || call->id == __NR_munmap)
        emit(target, moves ? KIND_AT_ENTRY_OF_MREMAP : KIND_AT_ENTRY_OF_MUNMAP, call->a,
             page_up(call->b), moves ? call->d : 0);
}

static __always_inline int begins(u64 user) {
    struct call call;
    read_call(&call, user);
    bool matters = takes_long(&call) || call.id == __NR_munmap || call.id == __NR_mremap;
    struct target *target = matters ? current_target() : 0;
    if (target)
        on_call_begin(target, &call);
    return 0;
}

// process_madvise changes another process than the caller.
static __always_inline struct target *advised(struct call *call) {
    return target_by_pid(pid_of(file_of(call->a)));
}

static __always_inline struct target *process_madvise_begins(u64 user) {
    struct call call;
    read_call(&call, user);
    struct target *target = advised(&call);
    if (target)
        call_begins(target->owner, 0, EVERYWHERE);
    return target;
}

static __always_inline void on_call_end(struct target *target, struct call *call, long result) {
    struct event e = {};
    read_event(&e, call, result);
    if (e.kind == KIND_MAP && !(call->d & MAP_ANONYMOUS)) {
        u64 file = file_of(call->e);
        e.aux |= sort_of(file);
        emit(target, KIND_FILE, call->f & ((1ULL << FILE_BITS) - 1), 0, identity_of(file));
    }
    if (e.kind == KIND_MAP && e.aux & PROT_EXEC && !(call->d & MAP_ANONYMOUS))
        code_changed(target->owner);
    bool moves = e.kind == KIND_REMAP_TO;  // its event has the new range
    u64 start = moves ? call->a : e.address, length = moves ? page_up(call->b) : e.length;
    enum stack_wish wish = wish_of_call(&e.kind, &e.aux, &e.address, &e.length, start, length);
    if (e.kind != NO_EVENT)
        emit_with(wish, target, e.kind, e.address, e.length, e.aux);
    // mremap unmaps the target range first, and may have moved some of several VMAs.
    if (e.kind == KIND_REMAP_TO && !e.length && call->d & MREMAP_FIXED)
        emit(target, KIND_DOUBT, 0, 0, DOUBT_CALL);
    if (takes_long(call))
        call_ended();
}

static __always_inline int ends(u64 user, long result) {
    struct target *target = current_target();
    if (!target)
        return 0;
    struct call call;
    read_call(&call, user);
    on_call_end(target, &call, result);
    return 0;
}

// A separate program, because the verifier checks every iteration of the loop.
static __always_inline int process_madvise_ends_with(enum stack_wish wish, u64 user, long result) {
    struct call call;
    read_call(&call, user);
    struct target *target = result > 0 ? advised(&call) : 0;
    if (target)
        on_process_madvise(target, &call, result, wish);
    call_ended();
    return 0;
}

static __always_inline int process_madvise_ends(u64 user, long result) {
    return process_madvise_ends_with(MAYBE, user, result);
}

// The function of a system call: (struct pt_regs *regs)
int call_fentry(u64 *ctx) { return begins(ctx[0]); }

int call_fexit(u64 *ctx) { return ends(ctx[0], ctx[1]); }

int process_madvise_fentry(u64 *ctx) {
    process_madvise_begins(ctx[0]);
    return 0;
}

int process_madvise_fexit(u64 *ctx) { return process_madvise_ends(ctx[0], ctx[1]); }

// (struct mm_struct *mm, unsigned long start, size_t length, int advice): io_uring calls it
// too and, before v6.15, process_madvise, which makes its own events.
int madvise_fexit(u64 *ctx) {
    struct target *target = current_target();
    struct call call = {.id = __NR_madvise, .a = ctx[1], .b = ctx[2], .c = ctx[3]};
    if (target && user_call() != __NR_process_madvise)
        on_call_end(target, &call, (s32)ctx[4]);
    return 0;
}

int call_kprobe(struct pt_regs *ctx) {
    struct target *target = current_target();
    if (!target)
        return 0;
    struct call call;
    read_call(&call, user_regs());
    on_call_begin(target, &call);
    keep(target, A_CALL, (struct given){});
    return 0;
}

static __always_inline bool call_was_kept(void) {
    struct given nothing;
    return take_back(A_CALL, &nothing);
}

int call_kretprobe(struct pt_regs *ctx) {
    return call_was_kept() ? ends(user_regs(), RESULT(ctx)) : 0;
}

int process_madvise_kprobe(struct pt_regs *ctx) {
    keep(process_madvise_begins(user_regs()), A_CALL, (struct given){});
    return 0;
}

int process_madvise_kretprobe(struct pt_regs *ctx) {
    return call_was_kept() ? process_madvise_ends(user_regs(), RESULT(ctx)) : 0;
}

// syscalls:sys_enter_* and sys_exit_*: only the selected calls come here. A program that returns 0
// hides the event from every other perf user (trace_call_bpf, kernel/trace/bpf_trace.c).
#define LEAVE_IT_TO_OTHERS 1

struct call_end {
    u64 common;
    u64 id;
    s64 result;
};

int call_begin_tracepoint(void *ctx) {
    begins(user_regs());
    return LEAVE_IT_TO_OTHERS;
}

int process_madvise_begin_tracepoint(void *ctx) {
    process_madvise_begins(user_regs());
    return LEAVE_IT_TO_OTHERS;
}

int call_end_tracepoint(struct call_end *ctx) {
    ends(user_regs(), ctx->result);
    return LEAVE_IT_TO_OTHERS;
}

int process_madvise_end_tracepoint(struct call_end *ctx) {
    process_madvise_ends(user_regs(), ctx->result);
    return LEAVE_IT_TO_OTHERS;
}

// The functions for every method to trace a call.
#define METHODS_OF(stem, handler)                                                               \
    int stem##_fexit(u64 *ctx) { return handler(ctx[0], ctx[1]); }                              \
    int stem##_kretprobe(struct pt_regs *ctx) { return handler(user_regs(), RESULT(ctx)); }        \
    int stem##_end_tracepoint(struct call_end *ctx) {                                           \
        handler(user_regs(), ctx->result);                                                      \
        return LEAVE_IT_TO_OTHERS;                                                              \
    }

// Raw sys_enter and sys_exit: every call of every process comes here, so the number of the call is
// checked before its process.
BPF_ARRAY(by_raw_tracepoint, u32, SYSTEM_CALLS);
#define USUAL 1
#define RARE 2

static __always_inline bool is_wanted(u32 id, u32 as) {
    u32 *wanted = by_raw_tracepoint.lookup(&id);
    return wanted && *wanted == as;
}

// (struct pt_regs *regs, long id)
int call_begin_raw(struct bpf_raw_tracepoint_args *ctx) {
    u64 user = ctx->args[0], id = PLAIN_CALL(ctx->args[1]);
    bool matters = id == __NR_madvise || id == __NR_process_madvise || id == __NR_munmap ||
                   id == __NR_mmap || id == __NR_mremap || id == __NR_brk || id == __NR_mlock ||
                   id == __NR_mlock2 || id == __NR_mlockall;
    if (!matters || in_compat_call() || !is_wanted(id, USUAL))
        return 0;
    if (id == __NR_process_madvise)
        process_madvise_begins(user);
    else
        begins(user);
    return 0;
}

// (struct pt_regs *regs, long result)
int call_end_raw(struct bpf_raw_tracepoint_args *ctx) {
    u64 id = call_number(ctx->args[0]);
    if (!is_wanted(id, USUAL) || in_compat_call())
        return 0;
    // Without a stack: in one program with all other calls, that is too much for 6.1.
    if (id == __NR_process_madvise)
        return process_madvise_ends_with(NO_STACK, ctx->args[0], ctx->args[1]);
    return ends(ctx->args[0], ctx->args[1]);
}
