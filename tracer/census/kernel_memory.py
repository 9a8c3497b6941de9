# SPDX-License-Identifier: GPL-2.0-only
"""Pages of kernel memory, read through BPF in batches (`bpf/pages.c`)."""

import mmap
from contextlib import suppress
from functools import cached_property

import numpy as np
import numpy.typing as npt

from shadow.errors import UnsupportedHostError
from tracer.bpf.compile import BPF_FOLDER
from tracer.bpf.program import BpfProgram
from tracer.bpf.syscall import run_once

__all__ = ("BATCH", "KernelMemory", "Words")

BATCH = (1 << 20) // mmap.PAGESIZE
"""Pages per batch: 1 MiB, which occupies the CPU for about 0.2 ms."""

Words = npt.NDArray[np.uint64]

_PAGE_MASK = mmap.PAGESIZE - 1


class KernelMemory:
    """Read access to the kernel's memory, a page at a time.

    Raises:
        NotPermittedError: the kernel refuses BPF programs for lack of rights.
        UnsupportedHostError: BPF may not read kernel memory on this host (lockdown).
    """

    def __init__(self) -> None:
        self._program = BpfProgram(
            [BPF_FOLDER / "pages.c"], {"BATCH": BATCH, "PAGE_BYTES": mmap.PAGESIZE}
        )
        self._reader = self._program.load("on_read_pages")
        size = (8 * (BATCH + 1) + _PAGE_MASK) & ~_PAGE_MASK
        self._maps = [
            mmap.mmap(self._program.map_fd("wanted"), size),
            mmap.mmap(self._program.map_fd("pages"), BATCH * mmap.PAGESIZE),
        ]
        self._wanted: Words = np.frombuffer(self._maps[0], np.uint64)[: BATCH + 1]
        self._pages: Words = np.frombuffer(self._maps[1], np.uint64).reshape(BATCH, -1)

    def read(self, addresses: Words) -> tuple[Words, npt.NDArray[np.bool_]]:
        """Copy pages.

        Args:
            addresses: (n,) page-aligned kernel addresses, none of them 0; n is at most BATCH.

        Returns:
            The words, a row for each page, which the next call overwrites, and (n,) whether each
            page was readable. The words of unreadable pages are zero.
        """
        count = len(addresses)
        self._wanted[:count] = addresses
        if count < BATCH:
            self._wanted[count] = 0
        run_once(self._reader)
        return self._pages[:count], self._wanted[:count] == 0

    def words(self, addresses: Words) -> tuple[Words, npt.NDArray[np.bool_]]:
        """The 8 bytes at each of any number of addresses.

        Args:
            addresses: an array of any shape of multiples of 8; address 0 is unreadable.

        Returns:
            The words, 0 if unreadable, and whether each is readable, in the same shape.
        """
        pages, at = np.unique(addresses & ~np.uint64(_PAGE_MASK), return_inverse=True)
        found = np.zeros((len(pages), mmap.PAGESIZE // 8), np.uint64)
        good = np.zeros(len(pages), np.bool_)
        places = np.flatnonzero(pages)
        for first in range(0, len(places), BATCH):
            part = places[first : first + BATCH]
            found[part], good[part] = self.read(pages[part])
        at = at.reshape(addresses.shape)
        columns = (addresses & np.uint64(_PAGE_MASK)).astype(np.int64) >> 3
        return found[at, columns], good[at]

    def word(self, address: int) -> int:
        """The 8 bytes at an address that is a multiple of 8.

        Raises:
            UnsupportedHostError: the address is unreadable.
        """
        words, good = self.read(np.array([address & ~_PAGE_MASK], np.uint64))
        if not good[0]:
            raise UnsupportedHostError(f"Kernel memory at {address:#x} cannot be read through BPF.")
        return int(words[0, (address & _PAGE_MASK) >> 3])

    @cached_property
    def task(self) -> int:
        """Address of the task_struct of the calling thread."""
        self.read(np.empty(0, np.uint64))
        return int(self._wanted[BATCH])

    def close(self) -> None:
        """Unmap the arrays and unload the program."""
        del self._wanted, self._pages
        for area in self._maps:
            with suppress(BufferError):  # the traceback of an exception still holds a view
                area.close()
        self._program.close()
