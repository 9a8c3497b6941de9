# SPDX-License-Identifier: GPL-2.0-only
"""A VMA: its columns, its flags, and the parts of its label."""

from enum import IntEnum

import numpy as np

from shadow.events import NAME_BITS, PKEY_BITS, POLICY_BITS, USERFAULT_BITS

__all__ = (
    "ALL_FLAGS",
    "KNOWN_FILE",
    "LEFT_BEHIND",
    "LabelPart",
    "NOT_COMPARED",
    "NO_ANON",
    "UFFD_FLAGS",
    "VMA",
    "VmaFlag",
)


class VmaFlag(IntEnum):
    """Bits of a VMA's `flags`; the first three equal PROT_READ, PROT_WRITE, PROT_EXEC."""

    READ = 1
    WRITE = 2
    EXEC = 4
    SHARED = 8
    GROWSDOWN = 16
    LOCKED = 32
    HUGETLB = 64
    HUGEPAGE = 128
    NOHUGEPAGE = 256
    DONTFORK = 512
    WIPEONFORK = 1024
    LOCKONFAULT = 2048
    ACCOUNT = 4096
    NORESERVE = 8192
    CACHED = 16384
    """A regular file, whose pages are likely to be in the page cache."""
    FORKED = 32768
    """The anon_vma comes from a fork and has parents (vma_had_uncowed_parents)."""
    DONTDUMP = 1 << 16
    MERGEABLE = 1 << 17
    RANDOM = 1 << 18
    SEQUENTIAL = 1 << 19
    SEALED = 1 << 20
    UFFD_MISSING = 1 << 21
    UFFD_WP = 1 << 22
    UFFD_MINOR = 1 << 23
    SPECIAL = 1 << 24
    """Device memory or SysV shared memory, which never merges."""


UFFD_FLAGS = VmaFlag.UFFD_MISSING | VmaFlag.UFFD_WP | VmaFlag.UFFD_MINOR
NOT_COMPARED = VmaFlag.FORKED | VmaFlag.CACHED
"""Flags in which VMAs that merge may differ, because the kernel's flags lack them."""

KNOWN_FILE = 1 << 32
"""Bit in the `file` of a VMA that holds the identity of an open file."""

NO_ANON = -1
"""`anon` of a VMA that has no anon_vma according to a reading; 0 if the reading lacks it."""


class LabelPart(IntEnum):
    """First bits of the parts of a VMA's label in `flags`; each part ends where the next begins."""

    PKEY = 25
    NAME = PKEY + PKEY_BITS
    POLICY = NAME + NAME_BITS
    USERFAULT = POLICY + POLICY_BITS
    END = USERFAULT + USERFAULT_BITS


ALL_FLAGS = (1 << LabelPart.PKEY) - 1
"""The bits of `flags` that are `VmaFlag`."""


LEFT_BEHIND = UFFD_FLAGS | (1 << LabelPart.END) - (1 << LabelPart.USERFAULT)
"""Bits of the userfaultfd, which a VMA loses when it is moved or forked."""


VMA = np.dtype(
    [
        ("start", "<i8"),
        ("end", "<i8"),
        ("flags", "<i8"),  # VmaFlag, and above them the parts of LabelPart
        ("file", "<i8"),  # 0: anonymous; else an identity
        ("pgoff", "<i8"),  # as vm_pgoff, pages: continuous across a merge
        ("anon", "<i8"),  # anon_vma number; 0: none yet
    ]
)
"""A VMA; those of an address space are sorted and do not overlap."""
