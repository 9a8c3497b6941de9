# SPDX-License-Identifier: GPL-2.0-only
"""Calls that hold a source of events against `shadow.call_rules`: successes and failures."""

import mmap

from shadow import uapi

__all__ = ("AREA", "STEPS", "VECTORS")

AREA = 0x11_0000_0000
_PAGE, _SLOT = 4096, 2 << 20
_HOLE, _MOVED = AREA + (64 << 20), AREA + (128 << 20)
_ALL = 2**64
_RW, _ANON = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
_FIXED = _ANON | uapi.MAP_FIXED

STEPS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("mmap", (AREA, 8 * _SLOT, _RW, _FIXED, _ALL - 1, 0)),
    ("mmap", (AREA + 16 * _SLOT, 5000, _RW, _FIXED | uapi.MAP_NORESERVE, _ALL - 1, 0)),
    ("mmap", (AREA, _PAGE, _RW, _ANON | uapi.MAP_FIXED_NOREPLACE, _ALL - 1, 0)),  # EEXIST
    ("mmap", (AREA + 1, _PAGE, _RW, _FIXED, _ALL - 1, 0)),  # EINVAL
    ("mmap", (AREA, _ALL - _PAGE, _RW, _FIXED, _ALL - 1, 0)),  # ENOMEM
    *(
        ("madvise", (AREA + 2 * _PAGE, 3 * _PAGE + 1, advice))
        for advice in (
            *(uapi.MADV_NORMAL, uapi.MADV_RANDOM, uapi.MADV_WILLNEED, uapi.MADV_DONTNEED),
            *(uapi.MADV_FREE, uapi.MADV_REMOVE, uapi.MADV_DONTFORK, uapi.MADV_DOFORK),
            *(uapi.MADV_HUGEPAGE, uapi.MADV_NOHUGEPAGE, uapi.MADV_DONTDUMP, uapi.MADV_DODUMP),
            *(uapi.MADV_COLD, uapi.MADV_PAGEOUT, uapi.MADV_POPULATE_READ),
            *(uapi.MADV_POPULATE_WRITE, uapi.MADV_DONTNEED_LOCKED, 77, 1 << 32 | 4),
        )
    ),
    *(
        ("madvise", (start, length, advice))
        for start, length in (
            (AREA + 1, _PAGE),  # EINVAL: unaligned
            (AREA, 0),
            (_HOLE, _PAGE),  # ENOMEM
            (AREA, _ALL - _PAGE),  # EINVAL: wraps around
            (AREA, _ALL - 1),
        )
        for advice in (
            *(uapi.MADV_DONTNEED, uapi.MADV_FREE, uapi.MADV_REMOVE, uapi.MADV_WILLNEED),
            *(uapi.MADV_POPULATE_READ, uapi.MADV_NOHUGEPAGE),
        )
    ),
    ("mprotect", (AREA, _PAGE, mmap.PROT_READ)),
    ("mprotect", (AREA, _PAGE + 1, _RW)),
    ("mprotect", (AREA + 1, _PAGE, _RW)),  # EINVAL
    ("mprotect", (AREA + 7 * _SLOT, 2 * _SLOT, _RW)),  # ENOMEM: up to the hole
    ("mprotect", (AREA, _ALL - _PAGE, mmap.PROT_READ)),  # ENOMEM: wraps around
    ("mprotect", (AREA, 0, _RW)),
    ("pkey_mprotect", (AREA, _PAGE, mmap.PROT_READ, _ALL - 1)),
    ("pkey_mprotect", (AREA, _PAGE, _RW, 0)),
    ("pkey_mprotect", (AREA, _PAGE, _RW, 14)),  # EINVAL: a key that is not allocated
    ("mlock", (AREA + 5, 2 * _PAGE)),
    ("madvise", (AREA, 4 * _PAGE, uapi.MADV_DONTNEED)),  # EINVAL: locked
    ("mlock", (AREA + 7 * _SLOT, 2 * _SLOT)),  # ENOMEM
    ("mlock", (AREA, _ALL - 2 * _PAGE)),  # EINVAL
    ("munlock", (AREA + 5, 2 * _PAGE)),
    ("munlock", (_HOLE, _PAGE)),  # ENOMEM
    ("mlock2", (AREA, _PAGE, uapi.MLOCK_ONFAULT)),
    ("mlock2", (AREA, _PAGE, 64)),  # EINVAL
    ("munlock", (AREA, _PAGE)),
    ("mlockall", (0,)),  # EINVAL
    ("mlockall", (uapi.MCL_CURRENT | uapi.MCL_ONFAULT,)),
    ("munlockall", ()),
    ("brk", (0,)),
    ("brk", (1,)),  # refused
    ("mremap", (AREA, _SLOT, 2 * _SLOT, uapi.MREMAP_MAYMOVE | uapi.MREMAP_FIXED, _MOVED)),
    ("mremap", (_MOVED, 2 * _SLOT, _SLOT + 1, 0, 0)),
    ("mremap", (_MOVED + 1, _PAGE, _PAGE, 0, 0)),  # EINVAL
    ("mremap", (_HOLE, _PAGE, _PAGE, uapi.MREMAP_MAYMOVE | uapi.MREMAP_FIXED, _MOVED)),  # EFAULT
    ("munmap", (_MOVED, _SLOT)),
    ("munmap", (_MOVED + 1, _PAGE)),  # EINVAL
    ("munmap", (_HOLE, 0)),  # EINVAL
    ("munmap", (_HOLE, 5000)),
)
"""Calls with their arguments, in an order in which they can be made."""

VECTORS: tuple[tuple[int, tuple[tuple[int, int], ...]], ...] = (
    (uapi.MADV_DONTNEED, ((AREA + _SLOT, _PAGE), (AREA + 3 * _SLOT, 3 * _PAGE))),
    (uapi.MADV_FREE, ((AREA + _SLOT, _PAGE),)),
    (uapi.MADV_COLD, ((AREA + _SLOT, _PAGE),)),
    (uapi.MADV_DONTNEED, ((AREA + _SLOT, _PAGE), (_HOLE, _PAGE))),  # in part
)
"""Calls of process_madvise: the advice and the ranges."""
