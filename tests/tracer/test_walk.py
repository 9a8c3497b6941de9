# SPDX-License-Identifier: GPL-2.0-only
"""The walk over synthetic page tables of every geometry."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from shadow.geometry import MODELLED, X86_64, Geometry
from tests.x86_64 import SLOT
from tracer.census.entries import FORMATS
from tracer.census.kernel_memory import KernelMemory
from tracer.census.walk import Walk

_DIRECT_MAP = 0xFFFF_8880_0000_0000
_TABLES = {"x86-64": 0x63, "arm64": 3}  # on x86-64: present, writable, accessed, dirty
_LEAVES = {"x86-64": 0xE3, "arm64": 0x0060_0000_0000_0F41}
_TABLE, _LEAF = _TABLES["x86-64"], _LEAVES["x86-64"]
_ALL = pytest.mark.parametrize("geometry", MODELLED, ids=lambda each: each.name)


class _Memory(KernelMemory):
    """Physical memory with page tables; `on_read` may change them during a reading."""

    def __init__(self, page: int) -> None:
        self._page = page
        self.frames: dict[int, npt.NDArray[np.uint64]] = {}
        self.on_read: Callable[[set[int]], None] = lambda _: None

    def new(self) -> int:
        """Physical address of a new page of zeroes."""
        frame = self._page * (len(self.frames) + 1)
        self.frames[frame] = np.zeros(self._page // 8, np.uint64)
        return frame

    def read(
        self, addresses: npt.NDArray[np.uint64]
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
        frames = [int(address) - _DIRECT_MAP for address in addresses]
        words = np.array([self.frames[frame] for frame in frames], np.uint64).reshape(
            -1, self._page // 8
        )
        self.on_read(set(frames))
        return words, np.ones(len(frames), np.bool_)

    def words(
        self, addresses: npt.NDArray[np.uint64]
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
        """As of the real memory, whose pages are those of this host."""
        places = [divmod(int(at) - _DIRECT_MAP, self._page) for at in addresses.ravel()]
        pages, _ = self.read(np.array([_DIRECT_MAP + places[0][0] * self._page], np.uint64))
        found = np.array([pages[0, offset // 8] for _, offset in places], np.uint64)
        return found.reshape(addresses.shape), np.ones(addresses.shape, np.bool_)


class _Tables:
    """Page tables that a test builds entry by entry."""

    def __init__(self, geometry: Geometry = X86_64) -> None:
        self.memory, self.geometry = _Memory(geometry.page), geometry
        self.pgd = self.memory.new()

    def table(self, address: int, level: int) -> int:
        """The table of this level over `address`, created if missing; the PTE level is 1."""
        table = self.pgd
        for above in range(self.geometry.levels, level, -1):
            index = address // self.geometry.span(above) % self.geometry.entries
            entry = int(self.memory.frames[table][index])
            if not entry:
                entry = self.memory.new() | _TABLES[self.geometry.arch]
                self.memory.frames[table][index] = entry
            table = entry & -self.geometry.page
        return table

    def set(self, address: int, level: int, word: int) -> None:
        """Set the entry over `address` in its table of this level."""
        index = address // self.geometry.span(level) % self.geometry.entries
        self.memory.frames[self.table(address, level)][index] = word

    def walk(self, within: tuple[int, int] | None = None) -> Walk:
        ranges = (np.array([within[0]]), np.array([within[1]])) if within else None
        return Walk(
            self.memory,
            direct_map=_DIRECT_MAP,
            zero_page=0,
            pgd=_DIRECT_MAP + self.pgd,
            geometry=self.geometry,
            form=FORMATS[self.geometry.arch](self.geometry.page),
            within=ranges,
        )


def _slots(walk: Walk) -> list[int]:
    return [slot for pages in walk.pte_pages() for slot in pages.slots.tolist()]


@_ALL
def test_every_level_is_found_and_counted(geometry: Geometry) -> None:
    tables, leaf = _Tables(geometry), _LEAVES[geometry.arch]
    slot, pmd, pud = geometry.slot, geometry.pmd_span, geometry.pud_span
    tops = [pud + 7 * slot, geometry.user_bytes - 3 * pud] if geometry.has_puds else []
    if pud * 8 > geometry.user_bytes:
        tops = tops[:0]
    places = [0, slot, pmd, *tops, geometry.user_bytes - slot]
    for place in places[:-1]:
        tables.set(place + 3 * geometry.page, 1, 3)
    tables.table(places[-1], 1)  # an empty PTE page
    tables.set(9 * slot, 2, leaf)
    tables.set(2 * pmd, 3, leaf)
    walk = tables.walk()
    found = list(walk.pte_pages())
    assert [each for pages in found for each in pages.slots.tolist()] == places
    refs = np.concatenate([np.bitwise_count(pages.present).sum(axis=1) for pages in found])
    assert refs.tolist() == [1] * (len(places) - 1) + [0]
    assert walk.upper.pmds.tolist() == sorted({place & -pmd for place in places})
    puds = sorted({place & -pud for place in places}) if geometry.has_puds else []
    assert walk.upper.puds.tolist() == puds
    assert np.concatenate(walk.upper.huge).tolist() == [9 * slot]
    assert walk.upper.huge_puds == 1
    assert walk.upper.unstable == 0


@_ALL
def test_a_small_top_may_lie_within_a_page(geometry: Geometry) -> None:
    """A PGD with few entries has only part of a page, and the rest of the page is of others."""
    tables = _Tables(geometry)
    tables.set(5 * geometry.slot, 1, 3)
    entries = geometry.user_bytes // geometry.span(geometry.levels)
    words = tables.memory.frames[tables.pgd]
    if entries == geometry.entries:
        return  # it fills its page
    words[entries:] = np.uint64(12345 * geometry.page | _TABLES[geometry.arch])
    if geometry.arch == "arm64":
        words[entries : 2 * entries] = words[:entries]
        words[:entries] = words[-1]
        tables.pgd += 8 * entries
    assert _slots(tables.walk()) == [5 * geometry.slot]


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
