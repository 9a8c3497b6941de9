# SPDX-License-Identifier: GPL-2.0-only
"""Page tables read without BPF, through /proc/kcore, which guests have.

This module finds the task in the kernel's task list, which it enters by the note of /proc/kcore
that has the task of its reader. It walks the page tables from the pgd down, at the physical
addresses that the headers of /proc/kcore have. It shares only the BTF offsets with
the census that it checks.
"""

import os
import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from shadow.geometry import Geometry
from tracer.bpf.btf import member_offsets

__all__ = ("Kcore",)

_PT_LOAD, _PT_NOTE = 1, 4
_NOTE = struct.Struct("<III")
_NT_TASKSTRUCT = 4
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_TABLE = {"x86-64": (1 | 1 << 7, 1), "arm64": (3, 3)}
"""By architecture: an entry with these bits of a mask points to a table."""
_ADDRESS_BITS = {"x86-64": 52, "arm64": 48}
_NOT_PHYSICAL = (1 << 64) - 1
_MEMBERS = ("task_struct.tasks", "task_struct.pid", "task_struct.mm", "mm_struct.pgd")


def _notes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The types and contents of notes; names and contents are padded to 4 bytes."""
    at = 0
    while at < len(data):
        name, size, kind = _NOTE.unpack_from(data, at)
        at += _NOTE.size + (name + 3 & -4)
        yield kind, data[at : at + size]
        at += size + 3 & -4


class Kcore:
    """Reads the kernel's memory through /proc/kcore.

    Args:
        geometry: the shape of the page tables.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._file = os.open("/proc/kcore", os.O_RDONLY)
        (first,) = struct.unpack("<Q", os.pread(self._file, 8, 32))
        (count,) = struct.unpack("<H", os.pread(self._file, 2, 56))
        raw = os.pread(self._file, count * _PROGRAM_HEADER.size, first)
        headers = [_PROGRAM_HEADER.unpack_from(raw, i * 56) for i in range(count)]
        self._parts = [(at, at + size, offset) for kind, _, offset, at, _, size, _, _ in headers
                       if kind == _PT_LOAD]  # fmt: skip
        self._memory = [(at, at + size, offset) for kind, _, offset, _, at, size, _, _ in headers
                        if kind == _PT_LOAD and at != _NOT_PHYSICAL]  # fmt: skip
        self._offsets = member_offsets(list(_MEMBERS))
        notes = [os.pread(self._file, size, offset) for kind, _, offset, _, _, size, _, _ in headers
                 if kind == _PT_NOTE]  # fmt: skip
        (task,) = (data for kind, data in _notes(b"".join(notes)) if kind == _NT_TASKSTRUCT)
        self._next: int = struct.unpack_from("<Q", task, self._offsets["task_struct.tasks"])[0]

    def _read(self, address: int, length: int, *, physical: bool = False) -> bytes:
        for start, end, offset in self._memory if physical else self._parts:
            if start <= address and address + length <= end:
                return os.pread(self._file, length, offset + address - start)
        raise LookupError(f"{address:#x} is not in /proc/kcore")

    def _word(self, address: int) -> int:
        (word,) = struct.unpack("<Q", self._read(address, 8))
        return int(word)

    def _task(self, pid: int) -> int:
        task = first = self._next - self._offsets["task_struct.tasks"]
        while True:
            (found,) = struct.unpack("<i", self._read(task + self._offsets["task_struct.pid"], 4))
            if found == pid:
                return task
            task = self._word(task + self._offsets["task_struct.tasks"])
            task -= self._offsets["task_struct.tasks"]
            if task == first:
                raise LookupError(f"no task {pid}")

    def _table(self, entry: int) -> npt.NDArray[np.uint64]:
        page = self._geometry.page
        frame = entry & ((1 << _ADDRESS_BITS[self._geometry.arch]) - page)
        return np.frombuffer(self._read(frame, page, physical=True), np.uint64)

    def pte_pages(self, pid: int) -> dict[int, int]:
        """Number of entries that are not none in each PTE page, by its first address."""
        mm = self._word(self._task(pid) + self._offsets["task_struct.mm"])
        pgd = self._word(mm + self._offsets["mm_struct.pgd"])
        geometry, (mask, table_bits) = self._geometry, _TABLE[self._geometry.arch]
        entries = geometry.user_bytes // geometry.span(geometry.levels)
        above = [(0, np.frombuffer(self._read(pgd, 8 * entries), np.uint64))]
        for level in range(geometry.levels, 1, -1):
            below = []
            for base, table in above:
                for index in np.flatnonzero(table & np.uint64(mask) == table_bits).tolist():
                    start = base + index * geometry.span(level)
                    below.append((start, self._table(int(table[index]))))
            above = below
        return {base: int(np.count_nonzero(table)) for base, table in above}

    def close(self) -> None:
        """Close /proc/kcore."""
        os.close(self._file)
