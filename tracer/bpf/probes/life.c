// SPDX-License-Identifier: GPL-2.0-only
// Processes that start, call execve, and end. Tracepoints show all of it at low cost.

// Traces a child with its own page tables, and its descendants.
static __always_inline void follow(u32 child) {
    struct target target = {.owner = child, .follows = 1};
    targets.update(&child, &target);
}

// (struct task_struct *parent, struct task_struct *child)
int process_fork_raw(struct bpf_raw_tracepoint_args *ctx) {
    struct target *parent = current_target();
    if (!parent)
        return 0;
    u32 tgid = bpf_get_current_pid_tgid() >> 32;
    u32 child = field(ctx->args[1], TASK_TGID);
    if (child == tgid)
        return 0;  // a thread
    u64 mm = field(ctx->args[0], TASK_MM);
    if (mm == field(ctx->args[1], TASK_MM)) {
        struct target sharing = {.owner = parent->owner, .mm = mm, .follows = parent->follows};
        targets.update(&child, &sharing);
    } else {
        if (parent->follows)
            follow(child);
        emit(parent, KIND_FORK, child, 0, 0);
    }
    return 0;
}

// (struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
int process_exec_raw(struct bpf_raw_tracepoint_args *ctx) {
    u32 tgid = bpf_get_current_pid_tgid() >> 32;
    struct target *target = target_by_pid(tgid);
    if (!target)
        return 0;
    code_changed(tgid);
    if (target->owner == tgid) {
        forget_space(target);
        emit(target, KIND_EXEC, 0, 0, 0);
        return 0;
    }
    u32 owner = target->owner;
    // The process stops sharing page tables.
    if (target->follows)
        follow(tgid);
    else
        targets.delete(&tgid);
    target = target_by_pid(owner);
    if (target)
        emit(target, KIND_SPAWN, tgid, 0, 0);
    return 0;
}

// (struct task_struct *task): the address space is already gone
int process_exit_raw(struct bpf_raw_tracepoint_args *ctx) {
    call_ended();  // if the end of a call of this thread was not seen
    u32 tgid = bpf_get_current_pid_tgid() >> 32;
    struct target *target = target_by_pid(tgid);
    if (!target)
        return 0;
    u64 signal = field(ctx->args[0], TASK_SIGNAL);
    if ((u32)field(signal, SIGNAL_LIVE) != 0) {  // other threads are running
        union {
            char text[16];
            u64 words[2];
        } name = {};
        bpf_get_current_comm(&name.text, sizeof(name.text));
        if (target->owner == tgid)
            emit(target, KIND_THREAD, name.words[0], name.words[1], 0);
        return 0;
    }
    if (target->owner != tgid) {
        targets.delete(&tgid);
        return 0;
    }
    forget_space(target);
    emit(target, KIND_EXIT, 0, 0, 0);
    target->gone = 1;
    return 0;
}
