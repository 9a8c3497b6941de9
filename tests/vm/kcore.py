# SPDX-License-Identifier: GPL-2.0-only
"""Page tables read without BPF, through /proc/kcore, which guests have.

This module finds the task in the kernel's task list and walks its page tables from the pgd down
in the direct map. It shares only the BTF offsets with the census that it checks.
"""

import os
import re
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tracer.bpf.btf import member_offsets

__all__ = ("Kcore",)

_PT_LOAD = 1
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_PRESENT, _LEAF = 1, 1 << 7
_FRAME = 0x000F_FFFF_FFFF_F000
_USER_HALF = 256
_PGD_SHIFT = {4: 39, 5: 48}
_MEMBERS = ("task_struct.tasks", "task_struct.pid", "task_struct.mm", "mm_struct.pgd")
_SYMBOLS = re.compile(r"^([0-9a-f]+) \w (init_task|page_offset_base)$", re.M)


class Kcore:
    """Reads the kernel's memory through /proc/kcore.

    Args:
        levels: number of page-table levels.
    """

    def __init__(self, levels: int) -> None:
        self._levels = levels
        self._file = os.open("/proc/kcore", os.O_RDONLY)
        (first,) = struct.unpack("<Q", os.pread(self._file, 8, 32))
        (count,) = struct.unpack("<H", os.pread(self._file, 2, 56))
        raw = os.pread(self._file, count * _PROGRAM_HEADER.size, first)
        headers = [_PROGRAM_HEADER.unpack_from(raw, i * 56) for i in range(count)]
        self._parts = [(at, at + size, offset) for kind, _, offset, at, _, size, _, _ in headers
                       if kind == _PT_LOAD]  # fmt: skip
        self._offsets = member_offsets(list(_MEMBERS))
        found = _SYMBOLS.findall(Path("/proc/kallsyms").read_text())
        symbols = {name: int(address, 16) for address, name in found}
        self._init_task = symbols["init_task"]
        self._direct_map = self._word(symbols["page_offset_base"])

    def _read(self, address: int, length: int) -> bytes:
        for start, end, offset in self._parts:
            if start <= address and address + length <= end:
                return os.pread(self._file, length, offset + address - start)
        raise LookupError(f"{address:#x} is not in /proc/kcore")

    def _word(self, address: int) -> int:
        (word,) = struct.unpack("<Q", self._read(address, 8))
        return int(word)

    def _task(self, pid: int) -> int:
        task = self._init_task
        while True:
            (found,) = struct.unpack("<i", self._read(task + self._offsets["task_struct.pid"], 4))
            if found == pid:
                return task
            task = self._word(task + self._offsets["task_struct.tasks"])
            task -= self._offsets["task_struct.tasks"]
            if task == self._init_task:
                raise LookupError(f"no task {pid}")

    def _table(self, entry: int) -> npt.NDArray[np.uint64]:
        return np.frombuffer(self._read(self._direct_map + (entry & _FRAME), 4096), np.uint64)

    def pte_pages(self, pid: int) -> dict[int, int]:
        """Number of entries that are not none in each PTE page, by its first address."""
        mm = self._word(self._task(pid) + self._offsets["task_struct.mm"])
        pgd = self._word(mm + self._offsets["mm_struct.pgd"])
        top = np.frombuffer(self._read(pgd, 4096), np.uint64)[:_USER_HALF]
        above = [(0, top)]
        for shift in range(_PGD_SHIFT[self._levels], 12, -9):
            below = []
            for base, table in above:
                for index in np.flatnonzero(table & np.uint64(_PRESENT)).tolist():
                    entry = int(table[index])
                    if not entry & _LEAF:
                        below.append((base + (index << shift), self._table(entry)))
            above = below
        return {base: int(np.count_nonzero(table)) for base, table in above}

    def close(self) -> None:
        """Close /proc/kcore."""
        os.close(self._file)
