# SPDX-License-Identifier: GPL-2.0-only
"""Names of mappings, as plain data.

A VMA identifies its file by a number and the name of its anonymous memory by a hash
(`shadow.table.VMA`). ptescope reads the names for both from /proc/PID/maps once. They stay valid
when VMAs are split, merged or moved.
"""

from dataclasses import dataclass, field
from enum import StrEnum

__all__ = (
    "NO_NAMES",
    "FileName",
    "MappingKind",
    "MappingNames",
    "mapping_kind_text",
    "mapping_name",
)


class MappingKind(StrEnum):
    """The purpose of a mapping, if known; a bounded set, so usable as metric labels."""

    HEAP = "heap"
    """Memory from brk."""
    STACK = "stack"
    """The stack of the main thread; stacks of other threads are anonymous memory."""
    FILE = "file"
    """A regular file, including programs and libraries."""
    MEMFD = "memfd"
    SYSV_SHM = "sysv_shm"
    POSIX_SHM = "posix_shm"
    """A file in /dev/shm."""
    SHARED_ANONYMOUS = "shared_anonymous"
    """MAP_SHARED without a file, which forked processes inherit."""
    HUGETLB = "hugetlb"
    NAMED = "named_anonymous"
    """Anonymous memory named with prctl(PR_SET_VMA_ANON_NAME)."""
    ALLOCATOR = "allocator"
    """An arena of glibc's malloc, or the heap of a sanitizer's allocator."""
    SANITIZER = "sanitizer"
    """The shadow of ASan, TSan or MSan."""
    JIT = "jit"
    """Executable anonymous memory: code generated at run time."""
    RESERVATION = "reservation"
    """At least 1 GiB of adjacent anonymous mappings, mostly inaccessible: heaps of JITs, pools of
    wasm runtimes, garbage-collected heaps."""
    ANONYMOUS = "anonymous"
    """All other private memory without a file."""
    VDSO = "vdso"
    """[vdso], [vvar] and other mappings that the kernel creates."""
    DEVICE = "device"
    OTHER = "other"
    """A kernel file without a path, or a file with an unknown name."""
    UNMAPPED = "unmapped"
    """Page tables for addresses without a mapping."""
    UNPLACED = "unplaced"
    """PTE pages with unknown addresses."""

    @classmethod
    def _missing_(cls, value: object) -> "MappingKind | None":  # noqa: ARG003
        """Traces from later versions may have further kinds."""
        return cls.OTHER


@dataclass(frozen=True)
class FileName:
    """The file of a mapping.

    Attributes:
        kind: the kind of the mapping.
        name: the name in /proc/PID/maps, usually a path.
        device: major and minor number, such as "8:1".
        inode: the inode number on that device.
    """

    kind: MappingKind
    name: str
    device: str = ""
    inode: int = 0


@dataclass(frozen=True)
class MappingNames:
    """Names of the mappings of one process.

    Attributes:
        files: files by the `file` of a VMA.
        labels: names of anonymous memory by the hash in the flags of a VMA.
        heap: the start address of the heap; 0: unknown.
    """

    files: dict[int, FileName] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    heap: int = 0


NO_NAMES = MappingNames()

_LONGEST = 48
_TEXT = {
    MappingKind.SYSV_SHM: "System V shared memory",
    MappingKind.POSIX_SHM: "POSIX shared memory",
    MappingKind.SHARED_ANONYMOUS: "shared anonymous memory",
    MappingKind.NAMED: "named anonymous memory",
    MappingKind.ANONYMOUS: "anonymous memory",
    MappingKind.JIT: "JIT code",
    MappingKind.RESERVATION: "large reservations",
    MappingKind.FILE: "a file",
    MappingKind.OTHER: "other mappings",
    MappingKind.UNMAPPED: "unmapped addresses",
    MappingKind.UNPLACED: "unknown addresses",
}


def mapping_kind_text(kind: str) -> str:
    """The kind of a mapping in words."""
    return _TEXT.get(MappingKind(kind), kind)


def mapping_name(kind: str, name: str | None) -> str:
    """The label of a row: the name of the mapping, or else its kind."""
    if name is None:
        return mapping_kind_text(kind)
    if len(name) <= _LONGEST:
        return name
    return f"...{name[3 - _LONGEST :]}"
