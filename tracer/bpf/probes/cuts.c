// SPDX-License-Identifier: GPL-2.0-only
// Pages that leave a file. A truncation, a hole or an open with O_TRUNC unmaps them from every
// process that maps the file, no matter which process calls. So the event goes to all traced
// processes, with device and inode number.

#define OVERLAYFS_MAGIC 0x794c7630
#define O_TRUNC 01000
#define FALLOC_FL_PUNCH_HOLE 0x02
#define FALLOC_FL_COLLAPSE_RANGE 0x08
#define FALLOC_FL_ZERO_RANGE 0x10
#define FALLOC_FL_INSERT_RANGE 0x20
#define CUTTING_MODES (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_COLLAPSE_RANGE | \
                       FALLOC_FL_INSERT_RANGE)
#define TO_THE_END (1ULL << 62)
#define DOUBT_ONLY 0

// Sends an event to all processes; its target, with pid 0, is not a process. A file without
// mappings affects no process. overlayfs maps another file than the one that is opened.
static __always_inline int send_to_all(u32 number, u32 device, u64 first, u64 length) {
    u32 everybody = 0;
    struct target *target = targets.lookup(&everybody);
    struct target *caller = current_target();
    u64 time;
    if (!target)
        return 0;
    if (!send(0, number, KIND_FILE_ZAP, first, length, device, RESERVE_TRIES, false, &time))
        lose_one(target);
    else if (caller)
        take_stack(caller->owner, MAYBE, KIND_TRUNCATE, time, first);
    return 0;
}

static __always_inline bool may_be_mapped(u64 inode) {
    u64 mapped = field(field(inode, INODE_MAPPING), SPACE_MMAP);
    return mapped || field(field(inode, INODE_SB), SUPER_MAGIC) == OVERLAYFS_MAGIC;
}

// [first, end) in pages of the file.
static __always_inline int file_zapped(u64 file, u64 first, u64 end, u32 how) {
    u64 inode = field(file, FILE_INODE);
    u64 super = field(inode, INODE_SB);
    if (!file || !may_be_mapped(inode) || end <= first)
        return 0;
    return send_to_all(field(inode, INODE_NUMBER), field(super, SUPER_DEVICE), first,
                    (end - first) | how);
}

// The end of a call on a file, by any process.
static __always_inline int file_call_ends(u64 user, long result) {
    if (result < 0)
        return 0;
    struct call call;
    read_call(&call, user);
    u64 fd = call.a, first = 0, end = TO_THE_END;
    u32 how = FILE_TRUNCATED;
    if (call.id == __NR_ftruncate) {
        first = page_up(call.b);
    } else if (call.id == __NR_fallocate) {
        u32 hole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
        if (!(call.b & CUTTING_MODES))
            return 0;
        // A partly removed page stays mapped; the kernel writes zeroes to the removed part.
        first = call.b & hole ? page_up(call.c) : call.c & -PAGE;
        end = call.b & hole ? (call.c + call.d) & -PAGE : end;
        how = call.b & hole ? FILE_HOLE : FILE_TRUNCATED;
    } else if (call.id == __NR_copy_file_range) {
        fd = call.c;
        how = DOUBT_ONLY;
    } else if (call.id == __NR_truncate) {
        return send_to_all(0, 0, 0, TO_THE_END);  // only the path identifies the file
    } else {
        fd = result;
        u64 flags = call.id == __NR_openat ? call.c : call.b;
        if (call.id == __NR_openat2)
            bpf_probe_read_user(&flags, sizeof(flags), (void *)call.c);
        if (call.id != __NR_creat && !(flags & O_TRUNC))
            return 0;
    }
    return file_zapped(file_of(fd), first, end, how);
}

// ftruncate and fallocate; their files are known when they begin.
static __always_inline int cut_begins(u64 user) {
    struct call call;
    read_call(&call, user);
    u64 file = file_of(call.a);
    if (call.id == __NR_fallocate && !(call.b & CUTTING_MODES))
        return 0;
    if (file && may_be_mapped(field(file, FILE_INODE)))
        call_begins(0, 0, EVERYWHERE);
    return 0;
}

static __always_inline int cut_ends(u64 user, long result) {
    file_call_ends(user, result);
    call_ended();
    return 0;
}

int cut_fentry(u64 *ctx) { return cut_begins(ctx[0]); }

int cut_kprobe(struct pt_regs *ctx) { return cut_begins(user_regs()); }

int cut_begin_tracepoint(void *ctx) {
    cut_begins(user_regs());
    return LEAVE_IT_TO_OTHERS;
}

// (struct pt_regs *regs, long id)
int cut_begin_raw(struct bpf_raw_tracepoint_args *ctx) {
    u64 id = PLAIN_CALL(ctx->args[1]);
    if ((id != __NR_ftruncate && id != __NR_fallocate) || in_compat_call())
        return 0;
    return is_wanted(id, RARE) ? cut_begins(ctx->args[0]) : 0;
}
