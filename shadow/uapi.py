# SPDX-License-Identifier: GPL-2.0-only
"""Constants of the Linux user-space API, named as in its headers.

They are plain integers, so that compiled code can use them. The system call numbers are
those of x86-64.
"""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = (
    "CLONE_THREAD",
    "CLONE_VFORK",
    "CLONE_VM",
    "MADV_COLD",
    "MADV_COLLAPSE",
    "MADV_DODUMP",
    "MADV_DOFORK",
    "MADV_DONTDUMP",
    "MADV_DONTFORK",
    "MADV_DONTNEED",
    "MADV_DONTNEED_LOCKED",
    "MADV_FREE",
    "MADV_GUARD_INSTALL",
    "MADV_GUARD_REMOVE",
    "MADV_HUGEPAGE",
    "MADV_HWPOISON",
    "MADV_KEEPONFORK",
    "MADV_MERGEABLE",
    "MADV_NOHUGEPAGE",
    "MADV_NORMAL",
    "MADV_PAGEOUT",
    "MADV_POPULATE_READ",
    "MADV_POPULATE_WRITE",
    "MADV_RANDOM",
    "MADV_REMOVE",
    "MADV_SEQUENTIAL",
    "MADV_SOFT_OFFLINE",
    "MADV_UNMERGEABLE",
    "MADV_WILLNEED",
    "MADV_WIPEONFORK",
    "MAP_32BIT",
    "MAP_ANONYMOUS",
    "MAP_DENYWRITE",
    "MAP_DROPPABLE",
    "MAP_EXECUTABLE",
    "MAP_FILE",
    "MAP_FIXED",
    "MAP_FIXED_NOREPLACE",
    "MAP_GROWSDOWN",
    "MAP_HUGETLB",
    "MAP_HUGE_1GB",
    "MAP_HUGE_2MB",
    "MAP_LOCKED",
    "MAP_NONBLOCK",
    "MAP_NORESERVE",
    "MAP_POPULATE",
    "MAP_PRIVATE",
    "MAP_SHARED",
    "MAP_SHARED_VALIDATE",
    "MAP_STACK",
    "MAP_SYNC",
    "MCL_CURRENT",
    "MCL_FUTURE",
    "MCL_ONFAULT",
    "MLOCK_ONFAULT",
    "MREMAP_DONTUNMAP",
    "MREMAP_FIXED",
    "MREMAP_MAYMOVE",
    "PROT_EXEC",
    "PROT_GROWSDOWN",
    "PROT_NONE",
    "PROT_READ",
    "PROT_SEM",
    "PROT_WRITE",
    "SYSCALL_NUMBERS",
)

# asm-generic/mman-common.h
PROT_NONE = 0
PROT_READ = 1
PROT_WRITE = 2
PROT_EXEC = 4
PROT_SEM = 8
PROT_GROWSDOWN = 0x1000000

# linux/mman.h
MAP_SHARED = 1
MAP_PRIVATE = 2
MAP_SHARED_VALIDATE = 3
MAP_DROPPABLE = 8
MAP_HUGE_2MB = 21 << 26
MAP_HUGE_1GB = 30 << 26

# asm-generic/mman-common.h
MAP_FILE = 0
MAP_FIXED = 0x10
MAP_ANONYMOUS = 0x20
MAP_POPULATE = 0x8000
MAP_NONBLOCK = 0x10000
MAP_STACK = 0x20000
MAP_HUGETLB = 0x40000
MAP_SYNC = 0x80000
MAP_FIXED_NOREPLACE = 0x100000

# asm-generic/mman.h
MAP_GROWSDOWN = 0x100
MAP_DENYWRITE = 0x800
MAP_EXECUTABLE = 0x1000
MAP_LOCKED = 0x2000
MAP_NORESERVE = 0x4000

# asm/mman.h of x86
MAP_32BIT = 0x40

# linux/mman.h
MREMAP_MAYMOVE = 1
MREMAP_FIXED = 2
MREMAP_DONTUNMAP = 4

# asm-generic/mman.h
MCL_CURRENT = 1
MCL_FUTURE = 2
MCL_ONFAULT = 4

# asm-generic/mman-common.h
MLOCK_ONFAULT = 1

# asm-generic/mman-common.h
MADV_NORMAL = 0
MADV_RANDOM = 1
MADV_SEQUENTIAL = 2
MADV_WILLNEED = 3
MADV_DONTNEED = 4
MADV_FREE = 8
MADV_REMOVE = 9
MADV_DONTFORK = 10
MADV_DOFORK = 11
MADV_MERGEABLE = 12
MADV_UNMERGEABLE = 13
MADV_HUGEPAGE = 14
MADV_NOHUGEPAGE = 15
MADV_DONTDUMP = 16
MADV_DODUMP = 17
MADV_WIPEONFORK = 18
MADV_KEEPONFORK = 19
MADV_COLD = 20
MADV_PAGEOUT = 21
MADV_POPULATE_READ = 22
MADV_POPULATE_WRITE = 23
MADV_DONTNEED_LOCKED = 24
MADV_COLLAPSE = 25
MADV_HWPOISON = 100
MADV_SOFT_OFFLINE = 101
MADV_GUARD_INSTALL = 102
MADV_GUARD_REMOVE = 103

# linux/sched.h
CLONE_VM = 0x100
CLONE_VFORK = 0x4000
CLONE_THREAD = 0x10000

# asm/unistd_64.h of x86, generated from arch/x86/entry/syscalls/syscall_64.tbl
SYSCALL_NUMBERS: Mapping[str, int] = MappingProxyType(
    {
        "open": 2,
        "mmap": 9,
        "mprotect": 10,
        "munmap": 11,
        "brk": 12,
        "ioctl": 16,
        "mremap": 25,
        "madvise": 28,
        "shmat": 30,
        "shmdt": 67,
        "truncate": 76,
        "ftruncate": 77,
        "creat": 85,
        "mlock": 149,
        "munlock": 150,
        "mlockall": 151,
        "munlockall": 152,
        "prctl": 157,
        "io_setup": 206,
        "io_destroy": 207,
        "remap_file_pages": 216,
        "mbind": 237,
        "openat": 257,
        "vmsplice": 278,
        "fallocate": 285,
        "perf_event_open": 298,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "bpf": 321,
        "mlock2": 325,
        "copy_file_range": 326,
        "pkey_mprotect": 329,
        "pidfd_open": 434,
        "io_uring_register": 427,
        "fsopen": 430,
        "fsconfig": 431,
        "fsmount": 432,
        "openat2": 437,
        "process_madvise": 440,
        "set_mempolicy_home_node": 450,
        "map_shadow_stack": 453,
        "mseal": 462,
    }
)
"""System calls of x86-64 by name."""
