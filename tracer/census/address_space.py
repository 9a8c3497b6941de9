# SPDX-License-Identifier: GPL-2.0-only
"""From a pid to its page tables: struct pid, task, mm, pgd; and the direct map.

Each step reads one pointer, at an offset from BTF. Entries of page tables hold physical
addresses. The kernel maps all of memory at one distance (the direct map, or linear map), which it
randomises in large steps.
"""

import ctypes
import mmap
import os
import secrets
import struct
from pathlib import Path

import numpy as np

from shadow.errors import NoSuchTargetError, UnsupportedHostError
from tracer.arch import running
from tracer.bpf.btf import member_offsets
from tracer.census.kernel_memory import BATCH, KernelMemory
from tracer.page_size import PAGE, PAGE_SHIFT

__all__ = ("AddressSpaces",)

_MEMBERS = (
    "task_struct.files",
    "task_struct.mm",
    "task_struct.tgid",
    "task_struct.pid_links",
    "task_struct.signal",
    "task_struct.thread_node",
    "signal_struct.thread_head",
    "files_struct.fdt",
    "fdtable.fd",
    "file.f_inode",
    "file.private_data",
    "inode.i_private",
    "pid.tasks",
    "mm_struct.pgd",
    "mm_struct.pgtables_bytes",
)
_PIDTYPE_TGID = 1  # enum pid_type, include/linux/pid_types.h
_HLIST_NODE = 16
_MOST_THREADS = 1 << 16
_MOST_BYTES = 1 << 46
"""64 TiB, the physical addresses that 4 levels of x86-64 can map directly."""
_PFN_MASK = (1 << 55) - 1  # Documentation/admin-guide/mm/pagemap.rst
_KERNEL = 1 << 63


def _own_frame(area: mmap.mmap) -> int:
    """Physical address of the first page of `area`; 0: the kernel hides it."""
    view = ctypes.c_char.from_buffer(area)
    page = ctypes.addressof(view) >> PAGE_SHIFT
    del view
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        pagemap.seek(8 * page)
        (entry,) = struct.unpack("<Q", pagemap.read(8))
    return int((entry & _PFN_MASK) << PAGE_SHIFT)


class AddressSpaces:
    """Finds the top of any process's page tables.

    Args:
        memory: the page reader.

    Attributes:
        direct_map: kernel address at which physical address 0 is mapped.
        zero_page: physical address of the zero page, which reads of untouched memory map.

    Raises:
        UnsupportedHostError: this kernel lacks or hides something that is needed.
    """

    def __init__(self, memory: KernelMemory) -> None:
        self._memory = memory
        self._at = member_offsets(list(_MEMBERS))
        self.direct_map = self._find_direct_map()
        with mmap.mmap(-1, PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
            area.read(1)
            self.zero_page = _own_frame(area)

    def _field(self, base: int, member: str) -> int:
        if base < _KERNEL:
            raise UnsupportedHostError(
                f"{member} cannot be read: {base:#x} is not a kernel address."
            )
        return self._memory.word(base + self._at[member])

    def _find_direct_map(self) -> int:
        """Step down from the PGD of this process until its random page is found."""
        secret = secrets.token_bytes(PAGE)
        with mmap.mmap(-1, PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
            area[:] = secret
            frame = _own_frame(area)
            if frame == 0:
                raise UnsupportedHostError(
                    "/proc/self/pagemap hides physical addresses; CAP_SYS_ADMIN shows them."
                )
            wanted = np.frombuffer(secret, np.uint64)
            pgd = self._field(self._field(self._memory.task, "task_struct.mm"), "mm_struct.pgd")
            step = running().direct_map_step
            top = pgd & -step
            for first in range(0, _MOST_BYTES // step, BATCH):
                bases = top - step * np.arange(first, first + BATCH, dtype=object)
                words, good = self._memory.read((bases + frame).astype(np.uint64))
                found = np.flatnonzero(good & (words == wanted).all(axis=1))
                if len(found):
                    return int(bases[found[0]])
        raise UnsupportedHostError(
            "The kernel's direct map cannot be found, perhaps because memory is encrypted."
        )

    def _struct_pid(self, pidfd: int) -> list[int]:
        """Possible addresses of a pidfd's struct pid: from its inode or, before v6.9, its file.

        Linux kernel commit cb12fd8e0dab "pidfd: add pidfs" moved it.
        """
        files = self._field(self._memory.task, "task_struct.files")
        table = self._field(self._field(files, "files_struct.fdt"), "fdtable.fd")
        file = self._memory.word(table + 8 * pidfd)
        inode = self._field(file, "file.f_inode")
        return [self._field(inode, "inode.i_private"), self._field(file, "file.private_data")]

    def _leader(self, pid: int, pidfd: int) -> int:
        for candidate in self._struct_pid(pidfd):
            if candidate < _KERNEL:
                continue
            first = self._memory.word(candidate + self._at["pid.tasks"] + 8 * _PIDTYPE_TGID)
            if first < _KERNEL:
                continue
            link = self._at["task_struct.pid_links"] + _HLIST_NODE * _PIDTYPE_TGID
            task = first - link
            tgid = self._at["task_struct.tgid"]
            both = self._memory.word(task + tgid & ~7)
            if both >> 8 * (tgid & 4) & 0xFFFFFFFF == pid:
                return task
        raise NoSuchTargetError(f"Process {pid} has just ended.")

    def mm(self, pid: int) -> int:
        """Address of the mm_struct of a process; 0: it has none, or no longer.

        Raises:
            NoSuchTargetError: the process has ended.
            UnsupportedHostError: this kernel's structures cannot be read.
        """
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError as error:
            raise NoSuchTargetError(f"There is no process {pid}.") from error
        try:
            leader = self._leader(pid, pidfd)
            mm = self._field(leader, "task_struct.mm")
            return mm or self._mm_of_any_thread(leader)
        finally:
            os.close(pidfd)

    def _mm_of_any_thread(self, leader: int) -> int:
        """The mm_struct of a running thread, because the leader may end before other threads."""
        head = self._field(leader, "task_struct.signal") + self._at["signal_struct.thread_head"]
        node = self._memory.word(head)
        for _ in range(_MOST_THREADS):
            if node == head or node < _KERNEL:
                return 0
            mm = self._field(node - self._at["task_struct.thread_node"], "task_struct.mm")
            if mm:
                return mm
            node = self._memory.word(node)
        return 0

    def page_table_bytes(self, spaces: list[int]) -> list[int | None]:
        """Size of the page tables of each mm_struct, bytes; None: it cannot be read."""
        at = np.array(spaces, np.uint64) + np.uint64(self._at["mm_struct.pgtables_bytes"])
        words, good = self._memory.words(at)
        found = zip(words.tolist(), good.tolist(), strict=True)
        return [word if ok else None for word, ok in found]

    def pgd(self, mm: int) -> int:
        """Kernel address of the PGD of an mm_struct."""
        return self._field(mm, "mm_struct.pgd")
