// SPDX-License-Identifier: GPL-2.0-only
// The files of file descriptors: which file an mmap maps, and its type.

#define MAX_FD (1 << 20)
#define S_IFMT 0170000
#define S_IFREG 0100000
#define TMPFS_MAGIC 0x01021994
#define HUGETLBFS_MAGIC 0x958458f6
#define MAP_HUGETLB_AUX (0x40000 << MAP_FLAGS_SHIFT)
#define FILE_BITS 46

static __always_inline u64 file_of(u64 fd) {
    u64 table = field(field(bpf_get_current_task(), TASK_FILES), FILES_FDT);
    if (fd >= (u32)field(table, FDTABLE_MAX_FDS) || fd >= MAX_FD)
        return 0;
    return field(field(table, FDTABLE_FD) + 8 * fd, 0);
}

// FILE_SALT is the secret of this run, which the loader writes into the compiled program.
static __always_inline u32 identity_of(u64 file) {
    return ((file ^ FILE_SALT) * 0x9E3779B97F4A7C15ULL) >> 34;
}

// The kind of memory that a mapping of the file has, as bits of `aux` of MAP.
static __always_inline u32 sort_of(u64 file) {
    u64 inode = field(file, FILE_INODE);
    u64 magic = field(field(inode, INODE_SB), SUPER_MAGIC);
    if ((field(inode, INODE_MODE) & S_IFMT) != S_IFREG)
        return SPECIAL;
    if (magic == HUGETLBFS_MAGIC)
        return NOT_CACHED | MAP_HUGETLB_AUX;
    return magic == TMPFS_MAGIC ? NOT_CACHED : 0;
}

// The host's pid of the process of a pidfd; for any other file, that of the caller. The struct pid
// is in the inode or, before v6.9, in the file ("pidfd: add pidfs").
static __always_inline u32 pid_of(u64 file) {
    u64 pid = field(field(file, FILE_INODE), INODE_PRIVATE);
    if (!pid)
        pid = field(file, FILE_PRIVATE);
    u32 number = pid ? (u32)field(pid, PID_NUMBERS) : 0;
    return number ? number : bpf_get_current_pid_tgid() >> 32;
}
