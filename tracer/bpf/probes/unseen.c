// SPDX-License-Identifier: GPL-2.0-only
// Changes that the tracepoints of system calls do not show, from raw tracepoints: direct I/O,
// requests to io_uring, and 32-bit calls of 64-bit programs (int 0x80).

#define SEGMENTS 16

enum { URING_FALLOCATE = 17, URING_MADVISE = 25, URING_FTRUNCATE = 55 };

static __always_inline void fill(struct target *target, u64 start, u64 length) {
    u64 first = start & -PAGE;
    submit(target, bpf_get_current_pid_tgid(), KIND_FILL, first, page_up(start + length) - first,
           DOUBT_DIRECT_IO, RESERVE_TRIES_IN_LOOP);
}

// (struct kiocb *iocb, struct iov_iter *iter, unsigned int dio_flags, size_t done_before): the
// kernel is about to pin the pages of the buffer, and makes missing ones. A write removes the
// pages of the file from the page cache, and so from every mapping.
int direct_io_raw(struct bpf_raw_tracepoint_args *ctx) {
    u64 iocb = ctx->args[0], iter = ctx->args[1];
    u64 left = field(iter, ITER_COUNT), skip = field(iter, ITER_OFFSET);
    if ((u8)field(iter, ITER_SOURCE)) {
        u64 position = field(iocb, IOCB_POS);
        file_zapped(field(iocb, IOCB_FILE), position & -PAGE, page_up(position + left),
                    DOUBT_ONLY);
    }
    struct target *target = current_target();
    if (!target)
        return 0;
    report_loss(target, target->owner, bpf_get_current_pid_tgid());
    u8 type = field(iter, ITER_TYPE);
    if (type == ITER_IS_UBUF) {
        fill(target, field(iter, ITER_UBUF_AT) + skip, left);
        return 0;
    }
    if (type != ITER_IS_IOVEC)
        return 0;
    u64 vectors = field(iter, ITER_IOV);
    for (u32 i = 0; i < SEGMENTS; i++) {
        if (!left)
            return 0;
        u64 base = field(vectors + i * sizeof(struct range), 0);
        u64 length = field(vectors + i * sizeof(struct range) + 8, 0) - skip;
        length = length < left ? length : left;
        fill(target, base + skip, length);
        left -= length;
        skip = 0;
    }
    if (left)
        emit(target, KIND_DOUBT, 0, 0, DOUBT_DIRECT_IO);
    return 0;
}

// (struct io_kiocb *req): the kernel will do it soon, perhaps in another thread.
int uring_request_raw(struct bpf_raw_tracepoint_args *ctx) {
    u64 request = ctx->args[0];
    u8 what = field(request, URING_OPCODE);
    if (what == URING_FALLOCATE || what == URING_FTRUNCATE)
        return file_zapped(file_of((u32)field(request, URING_FD)), 0, TO_THE_END, DOUBT_ONLY);
    struct target *target = what == URING_MADVISE ? current_target() : 0;
    if (target)
        emit(target, KIND_DOUBT, field(request, URING_ADDRESS),
             page_up(field(request, URING_LENGTH)), DOUBT_CALL);
    return 0;
}

static __always_inline int compat_call(void) {
    struct target *target = in_compat_call() ? current_target() : 0;
    if (target)
        emit(target, KIND_DOUBT, 0, 0, DOUBT_COMPAT);
    return 0;
}

int compat_fexit(u64 *ctx) { return compat_call(); }

int compat_kretprobe(struct pt_regs *ctx) { return compat_call(); }

// (const char *fn, struct ma_state *mas, ...): a maple tree, perhaps of VMAs, has changed.
int compat_tree_raw(struct bpf_raw_tracepoint_args *ctx) { return compat_call(); }

// Raw sys_exit for the rare calls: a separate program, which the loader omits if their own
// tracepoints work.
int rare_end_raw(struct bpf_raw_tracepoint_args *ctx) {
    u64 user = ctx->args[0], id = call_number(user);
    if (!is_wanted(id, RARE) || in_compat_call())
        return 0;
    if (id == __NR_ioctl)
        return ioctl_ends(user, ctx->args[1]);
    if (id == __NR_vmsplice || id == __NR_io_uring_register || id == __NR_process_vm_readv ||
        id == __NR_process_vm_writev)
        return pins_end(user, ctx->args[1]);
    if (id == __NR_ftruncate || id == __NR_truncate || id == __NR_fallocate || id == __NR_open ||
        id == __NR_openat || id == __NR_openat2 || id == __NR_creat || id == __NR_copy_file_range)
        return cut_ends(user, ctx->args[1]);
    return rare_ends(user, ctx->args[1]);
}
