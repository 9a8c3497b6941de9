# SPDX-License-Identifier: GPL-2.0-only
"""The walk over synthetic page tables of 4 and 5 levels."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from shadow.geometry import X86_64, X86_64_5, Geometry
from tests.x86_64 import PMD_SPAN, PUD_SPAN, SLOT
from tracer.census.kernel_memory import KernelMemory
from tracer.census.walk import Walk

_DIRECT_MAP = 0xFFFF_8880_0000_0000
_TABLE = 0x63  # present, writable, accessed, dirty
_LEAF = 0xE3


class _Memory(KernelMemory):
    """Physical memory with page tables; `on_read` may change them during a reading."""

    def __init__(self) -> None:
        self.frames: dict[int, npt.NDArray[np.uint64]] = {}
        self.on_read: Callable[[set[int]], None] = lambda _: None

    def new(self) -> int:
        """Physical address of a new page of zeroes."""
        frame = 0x1000 * (len(self.frames) + 1)
        self.frames[frame] = np.zeros(512, np.uint64)
        return frame

    def read(
        self, addresses: npt.NDArray[np.uint64]
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
        frames = [int(address) - _DIRECT_MAP for address in addresses]
        words = np.array([self.frames[frame] for frame in frames], np.uint64).reshape(-1, 512)
        self.on_read(set(frames))
        return words, np.ones(len(frames), np.bool_)


class _Tables:
    """Page tables that a test builds entry by entry."""

    def __init__(self, geometry: Geometry = X86_64) -> None:
        self.memory, self.geometry = _Memory(), geometry
        self.pgd = self.memory.new()

    def table(self, address: int, level: int) -> int:
        """The table of this level over `address`, created if missing; the PTE level is 1."""
        table = self.pgd
        for above in range(self.geometry.levels, level, -1):
            index = address >> 12 + 9 * (above - 1) & 511
            entry = int(self.memory.frames[table][index])
            if not entry:
                entry = self.memory.new() | _TABLE
                self.memory.frames[table][index] = entry
            table = entry & ~0xFFF
        return table

    def set(self, address: int, level: int, word: int) -> None:
        """Set the entry over `address` in its table of this level."""
        index = address >> 12 + 9 * (level - 1) & 511
        self.memory.frames[self.table(address, level)][index] = word

    def walk(self, within: tuple[int, int] | None = None) -> Walk:
        ranges = (np.array([within[0]]), np.array([within[1]])) if within else None
        return Walk(
            self.memory,
            direct_map=_DIRECT_MAP,
            zero_page=0,
            pgd=_DIRECT_MAP + self.pgd,
            geometry=self.geometry,
            within=ranges,
        )


def _slots(walk: Walk) -> list[int]:
    return [slot for pages in walk.pte_pages() for slot in pages.slots.tolist()]


@pytest.mark.parametrize("geometry", [X86_64, X86_64_5], ids=lambda each: each.name)
def test_every_level_is_found_and_counted(geometry: Geometry) -> None:
    tables = _Tables(geometry)
    far = 1 << 47 | 3 * PUD_SPAN if geometry.levels == 5 else 5 * PUD_SPAN
    places = [0, SLOT, PMD_SPAN, PUD_SPAN + 7 * SLOT, far]
    for place in places[:-1]:
        tables.set(place + 0x3000, 1, 1)
    tables.table(far, 1)  # an empty PTE page
    tables.set(9 * SLOT, 2, _LEAF)
    tables.set(2 * PMD_SPAN, 3, _LEAF)
    tables.memory.frames[tables.pgd][300] = tables.memory.new() | _TABLE  # the half of the kernel
    walk = tables.walk()
    found = list(walk.pte_pages())
    assert [slot for pages in found for slot in pages.slots.tolist()] == places
    refs = np.concatenate([np.bitwise_count(pages.present).sum(axis=1) for pages in found])
    assert refs.tolist() == [1, 1, 1, 1, 0]
    assert walk.upper.pmds.tolist() == [0, PMD_SPAN, PUD_SPAN, far]
    assert walk.upper.puds.tolist() == [0, PUD_SPAN, far]
    assert np.concatenate(walk.upper.huge).tolist() == [9 * SLOT]
    assert walk.upper.huge_puds == 1
    assert walk.upper.unstable == 0


def test_only_the_requested_ranges_are_read() -> None:
    tables = _Tables()
    for slot in range(8):
        tables.set(slot * SLOT, 1, 1)
    assert _slots(tables.walk((3 * SLOT + 4096, 5 * SLOT))) == [3 * SLOT, 4 * SLOT]


def test_a_table_freed_during_the_reading_is_left_out() -> None:
    tables = _Tables()
    for slot in range(3):
        tables.set(slot * SLOT, 1, 1)
    victim = tables.table(SLOT, 1)

    def free(frames: set[int]) -> None:
        if victim in frames:
            tables.set(SLOT, 2, 0)
            tables.memory.frames[victim][:] = 0xDEAD_BEEF

    tables.memory.on_read = free
    walk = tables.walk()
    assert _slots(walk) == [0, 2 * SLOT]
    assert walk.upper.unstable == 0


def test_a_table_replaced_during_the_reading_is_read_again() -> None:
    tables = _Tables()
    tables.set(0, 1, 1)
    old = tables.table(0, 1)
    new = tables.memory.new()
    tables.memory.frames[new][:7] = 1

    def replace(frames: set[int]) -> None:
        if old in frames:
            tables.set(0, 2, new | _TABLE)

    tables.memory.on_read = replace
    (pages,) = tables.walk().pte_pages()
    assert np.bitwise_count(pages.present).sum() == 7


def test_a_table_that_always_changes_is_reported() -> None:
    tables = _Tables()
    tables.set(0, 1, 1)

    def churn(frames: set[int]) -> None:
        if tables.table(0, 1) in frames:
            tables.set(0, 2, tables.memory.new() | _TABLE)

    tables.memory.on_read = churn
    walk = tables.walk()
    _slots(walk)
    assert walk.upper.unstable > 0
