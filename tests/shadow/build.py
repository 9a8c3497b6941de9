# SPDX-License-Identifier: GPL-2.0-only
"""Helpers that build events and address spaces."""

import mmap

import numpy as np

from shadow.events import EVENT, LABEL_BITS, MAP_FLAGS_SHIFT, PARTLY, EventBatch, Kind, Label
from shadow.table.page_set import Pages
from tests.x86_64 import PAGE, SLOT

__all__ = ("BASE", "DONTNEED", "FREE", "EventScript", "PAGE", "RW", "SLOT", "pages_read")

BASE = 0x10_0000_0000
RW = mmap.PROT_READ | mmap.PROT_WRITE
DONTNEED, FREE = 4, 8
_WRITE_FAULT = 6


class EventScript:
    """Events in order, a microsecond apart, for pages of this size."""

    def __init__(self, page: int = PAGE) -> None:
        self._rows: list[tuple[int, ...]] = []
        self._page = page

    def add(
        self, kind: Kind, address: int = 0, length: int = 0, aux: int = 0, tid: int = 1
    ) -> "EventScript":
        """Add any event."""
        time = 1000 * (len(self._rows) + 1)
        self._rows.append((time, address, length, 1, tid, kind, 0, aux))
        return self

    def map(
        self, start: int, length: int, prot: int = RW, flags: int = mmap.MAP_PRIVATE
    ) -> "EventScript":
        """Mmap of anonymous memory at a fixed place."""
        flags |= mmap.MAP_ANONYMOUS
        return self.add(Kind.MAP, start, length, flags << MAP_FLAGS_SHIFT | prot)

    def touch(self, start: int, length: int, step: int | None = None) -> "EventScript":
        """A write fault at every `step`, by default every page."""
        for address in range(start, start + length, step or self._page):
            self.add(Kind.FAULT, address, 0, _WRITE_FAULT)
        return self

    def dontneed(self, start: int, length: int) -> "EventScript":
        """MADV_DONTNEED."""
        return self.add(Kind.DONTNEED, start, length, DONTNEED)

    def protect(self, start: int, length: int, prot: int = 0) -> "EventScript":
        """Mprotect, which stops at the first hole."""
        return self.add(Kind.PROTECT, start, length, PARTLY | prot)

    def free(self, start: int, length: int) -> "EventScript":
        """MADV_FREE."""
        return self.add(Kind.FREE, start, length, FREE)

    def unmap(self, start: int, length: int) -> "EventScript":
        """Munmap: its entry and its return."""
        return self.add(Kind.UNMAP_BEGIN, start, length).add(Kind.UNMAP, start, length)

    def remap(self, old: int, length: int, new: int, new_length: int, flags: int) -> "EventScript":
        """Mremap: its entry and its return."""
        self.add(Kind.REMAP_FROM, old, length, flags)
        return self.add(Kind.REMAP_TO, new, new_length)

    def label(self, start: int, length: int, label: Label, value: int) -> "EventScript":
        """A LABEL event: a name, a policy, a seal ..."""
        return self.add(Kind.LABEL, start, length, label << LABEL_BITS | value)

    def batch(self) -> EventBatch:
        """(n,) of `EVENT`."""
        return np.array(self._rows, EVENT)


def pages_read(slots: int, entries: int, *, exact: bool = True) -> Pages:
    """A reading: each of the first slots from BASE on has a PTE page with this many entries."""
    bits = np.zeros((slots, 512), np.uint8)
    bits[:, :entries] = 1
    return Pages(
        slots=BASE + SLOT * np.arange(slots, dtype=np.int64),
        present=np.packbits(bits, axis=1, bitorder="little").view(np.uint64),
        huge=np.empty(0, np.int64),
        huge_kind=np.empty(0, np.uint8),
        exact=exact,
    )
