# SPDX-License-Identifier: GPL-2.0-only
"""Walk the page tables of a running process, level by level.

A table that is freed during the reading may hold anything. So the walk reads the entry above
each table again afterwards, and repeats tables with a changed entry. It handles PMD pages in
batches, so memory use does not grow with the process.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shadow.geometry import Geometry
from shadow.table.page_set import Ranges, overlapping
from tracer.census.entries import (
    ENTRY_KINDS,
    EntryFormat,
    entry_kinds,
    guard_maps,
    is_leaf,
    present_maps,
)
from tracer.census.kernel_memory import BATCH, KernelMemory, Words

__all__ = ("WalkedPages", "Upper", "Walk")

_ROUNDS = 8
_PMD_LEVEL = 2
_MARKERS = ENTRY_KINDS.index("marker")

Addresses = npt.NDArray[np.int64]


@dataclass(frozen=True)
class WalkedPages:
    """Some PTE pages.

    `slots`: (n,) first addresses, ascending. `present`: (n, words) bitmaps of the entries that are
    not none. `kinds`: (n, 5) entries by type. `guards`: (m,) first addresses of the pages
    under guard markers, ascending.
    """

    slots: Addresses
    present: npt.NDArray[np.uint64]
    kinds: npt.NDArray[np.int16]
    guards: Addresses


def _latest(parts: list[WalkedPages], standing: Addresses, slot: int) -> WalkedPages:
    """The last reading of each slot that still has its PTE page."""
    if len(parts) == 1 and np.array_equal(parts[0].slots, standing):
        return parts[0]
    slots = np.concatenate([part.slots for part in parts])[::-1]
    present = np.concatenate([part.present for part in parts])[::-1]
    kinds = np.concatenate([part.kinds for part in parts])[::-1]
    slots, at = np.unique(slots, return_index=True)
    at = at[np.isin(slots, standing)]
    guards = np.concatenate(
        [part.guards[_latest_of(parts, i, slot)] for i, part in enumerate(parts)]
    )
    return WalkedPages(
        slots[np.isin(slots, standing)],
        present[at],
        kinds[at],
        np.sort(guards[np.isin(guards & -slot, standing)]),
    )


def _latest_of(parts: list[WalkedPages], i: int, slot: int) -> npt.NDArray[np.bool_]:
    """Which guards of part `i` lie in slots that no later part contains."""
    later = np.concatenate([np.empty(0, np.int64), *(part.slots for part in parts[i + 1 :])])
    return ~np.isin(parts[i].guards & -slot, later)


@dataclass
class Upper:
    """The levels above the PTE pages.

    `puds` and `pmds` are the first addresses that each PUD and PMD page maps. `huge` has
    the first addresses of leaf PMDs, one array per batch. `unstable` counts tables that
    changed during every reading.
    """

    puds: Addresses = field(default_factory=lambda: np.empty(0, np.int64))
    pmds: Addresses = field(default_factory=lambda: np.empty(0, np.int64))
    huge_puds: int = 0
    huge: list[Addresses] = field(default_factory=list)
    unstable: int = 0


@dataclass(frozen=True)
class _Level:
    """Tables of one level: (n,) kernel addresses and (n,) first addresses mapped."""

    at: Words
    bases: Addresses

    def part(self, first: int) -> "_Level":
        return _Level(self.at[first : first + BATCH], self.bases[first : first + BATCH])


class Walk:
    """One reading of one address space.

    Args:
        memory: the page reader.
        direct_map: kernel address of physical address 0.
        zero_page: see `entry_kinds`.
        pgd: kernel address of the PGD.
        geometry: the shape of the page tables.
        form: the encoding of their entries.
        within: read only tables that overlap these ranges; None: everything.
        between: called between the batches.
    """

    def __init__(
        self,
        memory: KernelMemory,
        *,
        direct_map: int,
        zero_page: int,
        pgd: int,
        geometry: Geometry,
        form: EntryFormat,
        within: Ranges | None = None,
        between: Callable[[], object] = lambda: None,
    ) -> None:
        self._memory = memory
        self._direct_map = np.uint64(direct_map)
        self._zero_page = zero_page
        self._pgd, self._geometry = np.uint64(pgd), geometry
        self._form, self._within = form, within
        self._between = between
        self.upper = Upper()

    def _wanted(self, addresses: Addresses, span: int) -> npt.NDArray[np.bool_]:
        """Which of [address, address + span) overlap the requested ranges."""
        if self._within is None:
            return np.ones(len(addresses), np.bool_)
        return overlapping(addresses, self._within, span)

    def _read(self, tables: _Level) -> Words:
        """The words of at most BATCH tables; an unreadable one is empty and counts as unstable."""
        words, good = self._memory.read(tables.at)
        self.upper.unstable += int(np.count_nonzero(~good))
        return words.copy()

    def _top(self) -> Words:
        """The entries of the PGD for user space; it can be smaller than a page, and lie within."""
        count = self._geometry.user_bytes // self._geometry.span(self._geometry.levels)
        at = self._pgd + 8 * np.arange(count, dtype=np.uint64)
        words, good = self._memory.words(at.reshape(1, -1))
        self.upper.unstable += int(not good.all())
        return words

    def _children(self, words: Words, bases: Addresses, level: int) -> tuple[_Level, Addresses]:
        """The tables to which these entries point, and the addresses of huge leaves."""
        span = self._geometry.span(level)
        rows, columns = np.nonzero(words)
        addresses = bases[rows] + columns * span
        wanted = self._wanted(addresses, span)
        values, addresses = words[rows, columns][wanted], addresses[wanted]
        table = self._form.is_table(values)
        below = _Level(self._form.frames(values[table]) + self._direct_map, addresses[table])
        return below, addresses[is_leaf(values, self._form)]

    def _down(self, tables: _Level, level: int) -> _Level:
        """All tables below the given ones, which are of a level above the PMDs."""
        at, bases = [tables.at[:0]], [tables.bases[:0]]
        for first in range(0, len(tables.at), BATCH):
            part = tables.part(first)
            words = self._top() if level == self._geometry.levels else self._read(part)
            below, leaves = self._children(words, part.bases, level)
            at.append(below.at)
            bases.append(below.bases)
            self.upper.huge_puds += len(leaves)
        return _Level(np.concatenate(at), np.concatenate(bases))

    def _pmd_pages(self) -> _Level:
        tables = _Level(np.array([self._pgd]), np.zeros(1, np.int64))
        for level in range(self._geometry.levels, _PMD_LEVEL, -1):
            tables = self._down(tables, level)
            if level == _PMD_LEVEL + 2:
                self.upper.puds = tables.bases
        self.upper.pmds = tables.bases
        return tables

    def _pte_pages(self, tables: _Level) -> WalkedPages:
        present = np.empty((len(tables.at), self._geometry.entries // 64), np.uint64)
        kinds = np.empty((len(tables.at), len(ENTRY_KINDS)), np.int16)
        readable = np.ones(len(tables.at), np.bool_)
        guards = [tables.bases[:0]]
        for first in range(0, len(tables.at), BATCH):
            words, good = self._memory.read(tables.part(first).at)
            part = slice(first, first + len(words))
            readable[part] = good
            present[part] = present_maps(words)
            kinds[part] = entry_kinds(words, present[part], self._zero_page, self._form)
            (marked,) = np.nonzero(kinds[part, _MARKERS])
            rows, columns = np.nonzero(guard_maps(words[marked], self._form))
            guards.append(
                tables.bases[first + marked[rows]] + (columns << self._geometry.page_shift)
            )
            self._between()
        self.upper.unstable += int(np.count_nonzero(~readable))
        bases = tables.bases[readable]
        return WalkedPages(bases, present[readable], kinds[readable], np.concatenate(guards))

    def _below(self, pmds: _Level) -> WalkedPages:
        """The PTE pages under at most BATCH PMD pages, each read while its entry was unchanged."""
        words = self._read(pmds)
        tables, _ = self._children(words, pmds.bases, _PMD_LEVEL)
        parts = []
        for _ in range(_ROUNDS):
            parts.append(self._pte_pages(tables))
            again = self._read(pmds)
            changed = (words ^ again) & ~self._form.hardware_bits != 0
            words = again
            tables, _ = self._children(np.where(changed, words, 0), pmds.bases, _PMD_LEVEL)
            if not len(tables.at):
                break
        standing, huge = self._children(words, pmds.bases, _PMD_LEVEL)
        self.upper.huge.append(huge)
        self.upper.unstable += len(tables.at)
        return _latest(parts, standing.bases, self._geometry.slot)

    def pte_pages(self) -> Iterator[WalkedPages]:
        """All PTE pages, in ascending batches; `upper` is complete at the end."""
        pmds = self._pmd_pages()
        for first in range(0, len(pmds.at), BATCH):
            yield self._below(pmds.part(first))
        if self._within is None and not np.array_equal(self._again(), pmds.at):
            self.upper.unstable += 1

    def _again(self) -> Words:
        before = self.upper
        self.upper = Upper()
        at = self._pmd_pages().at
        self.upper = before
        return at
