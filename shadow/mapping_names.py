# SPDX-License-Identifier: GPL-2.0-only
"""Names of mappings, as plain data: what the kernel's flags do not say of a VMA.

A VMA names its file by an identity and its anonymous memory by a hash (`shadow.table.VMA`).
What the two stand for is read from /proc/PID/maps once and kept here, so it stays right when
VMAs are split, merged and moved.
"""

from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ("NO_NAMES", "FileName", "MappingKind", "MappingNames")


class MappingKind(StrEnum):
    """What a mapping is for, as far as it can be known; a bounded set, fit for labels."""

    HEAP = "heap"
    """What brk has made."""
    STACK = "stack"
    """The main thread's; those of other threads are anonymous memory."""
    FILE = "file"
    """A regular file, programs and libraries among them."""
    MEMFD = "memfd"
    SYSV_SHM = "sysv_shm"
    POSIX_SHM = "posix_shm"
    """A file in /dev/shm."""
    SHARED_ANONYMOUS = "shared_anonymous"
    """MAP_SHARED without a file, which forked processes inherit."""
    HUGETLB = "hugetlb"
    NAMED = "named_anonymous"
    """Anonymous memory that was named with prctl(PR_SET_VMA_ANON_NAME)."""
    ALLOCATOR = "allocator"
    """An arena of glibc's malloc, or the heap of a sanitizer's allocator."""
    SANITIZER = "sanitizer"
    """Shadow of ASan, TSan or MSan."""
    JIT = "jit"
    """Anonymous memory that can be executed: code that was made at run time."""
    RESERVATION = "reservation"
    """At least 1 GiB of touching anonymous mappings of which most cannot be accessed: heaps of
    JITs, pools of wasm runtimes, garbage-collected heaps."""
    ANONYMOUS = "anonymous"
    """All other private memory without a file."""
    VDSO = "vdso"
    """[vdso], [vvar] and what else the kernel maps by itself."""
    DEVICE = "device"
    OTHER = "other"
    """A file of the kernel without a path, or one whose name is not known."""
    UNMAPPED = "unmapped"
    """Tables over addresses that no mapping has."""
    UNPLACED = "unplaced"
    """PTE pages whose addresses are not known."""

    @classmethod
    def _missing_(cls, value: object) -> "MappingKind | None":  # noqa: ARG003
        """A trace of a later version may know more kinds."""
        return cls.OTHER


@dataclass(frozen=True)
class FileName:
    """What a file mapping maps.

    Attributes:
        kind: one of `MappingKind`.
        name: as /proc/PID/maps has it; its path, mostly.
        device: major and minor number, "8:1".
        inode: in that device.
    """

    kind: MappingKind
    name: str
    device: str = ""
    inode: int = 0


@dataclass(frozen=True)
class MappingNames:
    """Names of the mappings of one process.

    Attributes:
        files: by the `file` of a VMA.
        labels: names of anonymous memory by their hash in the flags of a VMA.
        heap: where the heap begins, bytes; 0: not known.
    """

    files: dict[int, FileName] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    heap: int = 0


NO_NAMES = MappingNames()
