# SPDX-License-Identifier: GPL-2.0-only
"""Find the facilities by which a process may change its page tables without events.

They explain differences that neither the place nor a call explains: memory that is registered
with userfaultfd, and open files that pin pages (get_user_pages maps pages without a page
fault): io_uring, direct I/O, guests of KVM, VFIO, RDMA.
"""

import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from shadow.table.page_set import Ranges, overlapping
from tracer.follow.compare import Mask, Slots
from tracer.process.target import Target
from tracer.procfs import memory_status, parse_maps, read_living

__all__ = ("Causes", "Clues", "clues_of")

_EVERY = 5.0
"""Seconds for which clues stay valid."""
_MOST_FILES = 1024
_MOST_PTE_KIB = 64 << 10
"""Above this VmPTE smaps, which walks the page tables, is read only with a userfaultfd open."""
_BY_LINK = {
    "anon_inode:[io_uring]": "io_uring",
    "anon_inode:[userfaultfd]": "userfaultfd",
    "anon_inode:kvm-vm": "KVM",
    "anon_inode:kvm-vcpu": "KVM",
    "/dev/vfio/": "VFIO",
    "/dev/infiniband/": "RDMA",
}
"""Facilities by the start of the link target of an open file."""
_PINNING = ("KVM", "VFIO", "RDMA", "io_uring", "direct I/O")
"""Facilities that map pages without a fault; the first that is in use is named."""
_FLAGS = re.compile(r"^flags:\t([0-7]+)$", re.MULTILINE)
_IO = re.compile(r"^(?:read|write)_bytes: (\d+)$", re.MULTILINE)
_REGISTERED = {"um", "uw", "ui"}
"""VmFlags of memory registered with userfaultfd: missing, write-protect, minor."""
_HALF_A_PAGE = 2048


@dataclass(frozen=True)
class Clues:
    """The facilities that a process uses.

    Attributes:
        files: names of `_BY_LINK` and "direct I/O", from the open files.
        registered: addresses registered with userfaultfd.
        moved: bytes that the process has read from and written to storage.
    """

    files: frozenset[str]
    registered: Ranges
    moved: int


def _kind_of(fd: Path) -> str | None:
    """The facility that an open file belongs to; None: none."""
    link = str(fd.readlink())
    for begin, kind in _BY_LINK.items():
        if link.startswith(begin):
            return kind
    if not link.startswith("/"):
        return None
    flags = _FLAGS.search((fd.parent.parent / "fdinfo" / fd.name).read_text())
    return "direct I/O" if flags and int(flags[1], 8) & os.O_DIRECT else None


def _files(task: Path) -> frozenset[str]:
    kinds = set()
    for fd in islice((task / "fd").iterdir(), _MOST_FILES):
        with suppress(OSError):  # the file was closed meanwhile
            kinds.add(_kind_of(fd))
    return frozenset(kind for kind in kinds if kind)


def _registered(task: Path) -> Ranges:
    smaps = parse_maps((task / "smaps").read_text(errors="replace"))
    found = [mapping for mapping in smaps if mapping.flags & _REGISTERED]
    starts, ends = [each.start for each in found], [each.end for each in found]
    return np.array(starts, np.int64), np.array(ends, np.int64)


def _moved(pid: int) -> int:
    with suppress(OSError):
        return sum(map(int, _IO.findall(Path(f"/proc/{pid}/io").read_text())))
    return 0


def clues_of(pid: int) -> Clues:
    """Find the facilities that a process uses now.

    Raises:
        OSError: the process has ended, or may not be read.
    """
    files = read_living(pid, _files)
    registered: Ranges = np.empty(0, np.int64), np.empty(0, np.int64)
    if "userfaultfd" in files or memory_status(pid).vm_pte_kib <= _MOST_PTE_KIB:
        registered = read_living(pid, _registered)
    return Clues(files, registered, _moved(pid))


class Causes:
    """Names the causes of changes to the page tables of one process.

    Args:
        target: the process.
        slot_bytes: the size of a slot.
    """

    def __init__(self, target: Target, slot_bytes: int) -> None:
        self._pid, self._slot = target.pid, slot_bytes
        self._clues: Clues | None = None
        self._until = 0.0
        self._moved_at_rest = 0

    def rest(self) -> None:
        """Note that everything was just read: use of storage from now on is a clue."""
        self._moved_at_rest = _moved(self._pid)

    def _look(self) -> Clues | None:
        if time.monotonic() >= self._until:
            self._clues = None
            with suppress(OSError):
                self._clues = clues_of(self._pid)
            self._until = time.monotonic() + _EVERY
        return self._clues

    def by_place(self, slots: Slots) -> Mapping[str, Mask]:
        """Which slots contain memory that is registered with userfaultfd."""
        clues = self._look()
        if clues is None or not len(clues.registered[0]):
            return {}
        return {"userfaultfd": overlapping(slots, clues.registered, self._slot)}

    def pinning(self, entries: int) -> str | None:
        """The facility that may have mapped `entries` without a fault; None: unknown.

        If no file is open for direct I/O any more, the bytes to and from storage since the last
        reading are a clue, because buffered reads and writes would have faulted.
        """
        clues = self._look()
        if clues is None:
            return None
        for name in _PINNING:
            if name in clues.files:
                return name
        moved = _moved(self._pid) - self._moved_at_rest
        return "direct I/O" if moved >= max(entries, 1) * _HALF_A_PAGE else None
