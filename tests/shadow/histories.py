# SPDX-License-Identifier: GPL-2.0-only
"""Random histories of processes, applied call by call to a table and to the specification.

Calls that the kernel would refuse are left out, those that it carries out in part are not.
"""

import mmap
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from shadow.events import (
    FILE_HOLE,
    FILE_TRUNCATED,
    PARTLY,
    PKEY_SHIFT,
    EventBatch,
    Kind,
    Label,
)
from shadow.geometry import Geometry
from shadow.policy import Policy
from shadow.pte_ref.process import Hint, SpecifiedProcess
from shadow.pte_ref.vmas import Vma
from shadow.table.counters import Counter
from shadow.table.table import Table
from tests.shadow.build import RW, EventScript

__all__ = ("Action", "Both", "actions", "places")

_MOVED_AT_MOST = 1 << 10
"""PMD pages: the specification walks an mremap by them."""
_PLACE = 64
"""The first place of histories is so many PMD pages above 0."""
_HINTS: tuple[tuple[int, Hint, bool], ...] = (
    (10, "dontfork", True),
    (11, "dontfork", False),
    (14, "hugepage", True),
    (15, "nohugepage", True),
    (18, "wipeonfork", True),
    (19, "wipeonfork", False),
    (16, "dontdump", True),
    (17, "dontdump", False),
    (12, "mergeable", True),
    (13, "mergeable", False),
    (1, "random", True),
    (2, "sequential", True),
    (0, "random", False),
)
"""madvise values, and the hints that they set or clear."""
_MAP_LOCKED, _MAP_POPULATE = 0x2000, 0x8000
_MCL_FUTURE, _MLOCK_ONFAULT = 2, 1
_DONTNEED, _DONTNEED_LOCKED, _POPULATE_WRITE, _PAGEOUT = 4, 24, 23, 21
_GUARD_INSTALL, _GUARD_REMOVE = 102, 103
_MAYMOVE, _DONTUNMAP = 1, 4


def _around(geometry: Geometry) -> int:
    """Bytes on each side of a place in which histories happen."""
    return 2 * geometry.slot


def _edges(geometry: Geometry) -> list[int]:
    """Where ranges begin and end: at slots, in their middle, and near both."""
    half, around = geometry.entries // 2, _around(geometry)
    every = {
        slot * geometry.slot + page * geometry.page
        for slot in range(-2, 3)
        for page in (-2, -1, 0, 1, 2, half - 1, half, half + 1)
    }
    return sorted(edge for edge in every if abs(edge) <= around)


def places(geometry: Geometry) -> list[int]:
    """The addresses around which histories happen: a table of each level ends there."""
    low = min(_PLACE, geometry.user_bytes // geometry.pmd_span // 2) * geometry.pmd_span
    return [low, *(geometry.span(level) for level in range(4, geometry.levels + 1))]


@dataclass(frozen=True)
class Action:
    """A call: its kind, its process, its range, and other arguments.

    `target` is where an mremap goes, and `choice` picks a variant.
    """

    name: str
    who: int
    over: tuple[int, int]
    target: int
    choice: int

    @property
    def variant(self) -> int:
        """One of six."""
        return self.choice % 6

    @property
    def start(self) -> int:
        """First address of its range."""
        return self.over[0]

    @property
    def end(self) -> int:
        """The address after its last."""
        return self.over[1]

    @property
    def length(self) -> int:
        """Bytes."""
        return self.end - self.start


_CLOSE = (
    "guard",
    "touch",
    "touch",
    "dontneed",
    "free",
    "map",
    "unmap",
    "protect",
    "populate",
    "lock",
)
_ANYWHERE = ("dontneed", "dontneed", "free", "map", "unmap", "protect", "advise", "remove")
_OTHERS = (
    *("unguard", "unlock", "lock_future", "brk", "page_out", "remap", "remap", "fork"),
    *("label", "label", "seal", "file_lost", "fill"),
)


def actions(geometry: Geometry) -> st.SearchStrategy[Action]:
    """Calls in and across the places of page tables of this shape."""
    place, edge = st.sampled_from(places(geometry)), st.sampled_from(_edges(geometry))
    somewhere = st.builds(int.__add__, place, edge)

    def calls(
        names: tuple[str, ...], ranges: st.SearchStrategy[tuple[int, int]]
    ) -> st.SearchStrategy[Action]:
        who, choice = st.integers(0, 2), st.integers(0, len(_HINTS) - 1)
        return st.builds(Action, st.sampled_from(names), who, ranges, somewhere, choice)

    pair = st.lists(edge, min_size=2, max_size=2, unique=True).map(sorted)
    close = st.builds(lambda at, ends: (at + ends[0], at + ends[1]), place, pair)
    far = st.lists(somewhere, min_size=2, max_size=2, unique=True).map(
        lambda ends: (min(ends), max(ends))
    )
    few = st.builds(
        lambda at, pages: (at, at + pages * geometry.page), somewhere, st.integers(1, 4)
    )
    return st.one_of(
        calls(("touch",), few),
        calls(_CLOSE, close),
        calls(_ANYWHERE + _OTHERS, close),
        calls((*_ANYWHERE, "page_out", "remap"), far),
    )


class Both:
    """One process, in the table and in the specification."""

    def __init__(self, table: Table, process: SpecifiedProcess) -> None:
        self.table, self.process, self._geometry = table, process, table.geometry
        self._page, self._around = table.geometry.page, _around(table.geometry)
        self._small = 2 * self._around
        self._break = places(table.geometry)[0] + 8 * self._around
        self._locks_all = False
        self.applied: list[EventBatch] = []
        """The events applied to the table."""

    def begin(self) -> None:
        """Memory around each place."""
        for place in places(self._geometry):
            self.do(Action("map", 0, (place - self._around, place + self._around), 0, 0))

    def do(self, action: Action) -> "Both | None":
        """Apply a call to both; a fork returns the child."""
        child: Both | None = getattr(self, f"_{action.name}")(action)
        return child

    def _tell(self, history: EventScript) -> None:
        self.applied.append(history.batch())
        self.table.feed(self.applied[-1])

    def _script(self) -> EventScript:
        return EventScript(self._page)

    def _mapped(self, start: int, length: int) -> bool:
        return bool(self.process.vmas.over(start // self._page, (start + length) // self._page))

    def _touch(self, a: Action) -> None:
        self._tell(self._script().touch(a.start, min(a.length, self._small)))
        self.process.touch(a.start, min(a.length, self._small))

    def _map(self, a: Action) -> None:
        fills = {3: _MAP_POPULATE, 4: _MAP_LOCKED}.get(a.variant, 0)
        if (fills or self._locks_all) and a.length > self._small:
            return
        writable, shared = a.variant != 1, a.variant == 2
        kind = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
        self._tell(self._script().map(a.start, a.length, RW if writable else 0, kind | fills))
        self.process.map(
            a.start,
            a.length,
            writable=writable,
            shared=shared,
            locked=fills == _MAP_LOCKED,
            populate=fills == _MAP_POPULATE,
        )

    def _unmap(self, a: Action) -> None:
        self._tell(self._script().unmap(a.start, a.length))
        self.process.unmap(a.start, a.length)

    def _protect(self, a: Action) -> None:
        writable = a.variant > 2
        self._tell(self._script().protect(a.start, a.length, RW if writable else 0))
        self.process.protect(a.start, a.length, writable=writable)

    def _dontneed(self, a: Action) -> None:
        locked = a.variant == 0
        advice = _DONTNEED_LOCKED if locked else _DONTNEED
        self._tell(self._script().add(Kind.DONTNEED, a.start, a.length, advice))
        self.process.dontneed(a.start, a.length, locked=locked)

    def _free(self, a: Action) -> None:
        self._tell(self._script().free(a.start, a.length))
        self.process.free(a.start, a.length)

    def _remove(self, a: Action) -> None:
        self._tell(self._script().add(Kind.TRUNCATE, a.start, a.length))
        self.process.remove(a.start, a.length)

    def _page_out(self, a: Action) -> None:
        self._tell(self._script().add(Kind.ADVISE, a.start, a.length, _PAGEOUT))
        self.process.page_out(a.start, a.length)

    def _guard(self, a: Action) -> None:
        if a.length <= self._small:
            self._tell(self._script().add(Kind.ADVISE, a.start, a.length, _GUARD_INSTALL))
            self.process.guard(a.start, a.length)

    def _unguard(self, a: Action) -> None:
        self._tell(self._script().add(Kind.ADVISE, a.start, a.length, _GUARD_REMOVE))
        self.process.unguard(a.start, a.length)

    def _populate(self, a: Action) -> None:
        self._tell(self._script().add(Kind.POPULATE, a.start, a.length, _POPULATE_WRITE))
        self.process.populate(a.start, a.length)

    def _label(self, a: Action) -> None:
        """A name, a policy or a key; one of three values, of which one is the default."""
        value, private = a.target // self._page % 3, not any(vma.shared for vma in self._over(a))
        if a.variant % 3 == 0:
            aux = value + 1 << PKEY_SHIFT
            for vma in self._over(a):  # pkey_mprotect with unchanged access, VMA by VMA
                part = vma.part(a.start // self._page, a.end // self._page)
                start, length = part.start * self._page, len(part) * self._page
                prot = RW if vma.writable else 0
                self._tell(self._script().add(Kind.PROTECT, start, length, aux | prot))
                self.process.label(start, length, "key", value)
                self.process.protect(start, length, writable=vma.writable)
        elif a.variant % 3 == 1:
            self._tell(self._script().label(a.start, a.length, Label.POLICY, value))
            self.process.label(a.start, a.length, "policy", value)
        elif private:
            self._tell(self._script().label(a.start, a.length, Label.NAME, value))
            self.process.label(a.start, a.length, "name", value)

    def _over(self, a: Action) -> list[Vma]:
        return self.process.vmas.over(a.start // self._page, a.end // self._page)

    def _seal(self, a: Action) -> None:
        """Mseal; later calls that the kernel would refuse do not occur in a history."""
        self._tell(self._script().label(a.start, a.length, Label.SEAL, 0))
        self.process.advise(a.start, a.length, "sealed", on=True)

    def _file_lost(self, a: Action) -> None:
        hole = a.variant % 2 == 0
        aux = FILE_HOLE if hole else FILE_TRUNCATED
        self._tell(self._script().add(Kind.TRUNCATE, a.start, a.length, aux))
        self.process.file_lost(a.start, a.length, hole=hole)

    def _fill(self, a: Action) -> None:
        if a.length <= self._small and not self.process.tables.marks(
            range(a.start // self._page, a.end // self._page)
        ):
            self._tell(self._script().add(Kind.FILL, a.start, a.length))
            self.process.fill(a.start, a.length)

    def _advise(self, a: Action) -> None:
        advice, hint, on = _HINTS[a.choice]
        vmas = self.process.vmas.over(a.start // self._page, a.end // self._page)
        if hint == "wipeonfork" and any(vma.shared for vma in vmas):
            return
        self._tell(self._script().add(Kind.ADVISE, a.start, a.length, advice))
        self.process.advise(a.start, a.length, hint, on=on)

    def _lock(self, a: Action) -> None:
        on_fault = a.variant > 3
        flags = PARTLY | (_MLOCK_ONFAULT if on_fault else 0)
        self._tell(self._script().add(Kind.LOCK, a.start, a.length, flags))
        self.process.lock(a.start, a.length, on_fault=on_fault)

    def _unlock(self, a: Action) -> None:
        if a.variant:
            self._tell(self._script().add(Kind.UNLOCK, a.start, a.length, PARTLY))
            self.process.unlock(a.start, a.length)
        else:
            self._locks_all = False
            self._tell(self._script().add(Kind.UNLOCK))
            self.process.unlock_all()

    def _lock_future(self, _: Action) -> None:
        self._locks_all = True
        self._tell(self._script().add(Kind.LOCK, aux=_MCL_FUTURE))
        self.process.lock_future()

    def _brk(self, a: Action) -> None:
        heap = places(self._geometry)[0] + 8 * self._around
        new = heap + a.start % self._around
        if new > self._break and self._mapped(self._break, new - self._break):
            return
        self._break = new
        self._tell(self._script().add(Kind.BRK, new))
        self.process.brk(new)

    def _remap(self, a: Action) -> None:
        """Mremap, in place or not: grows, shrinks, or keeps the length and then goes VMA by VMA."""
        vma = self.process.vmas.at(a.start // self._page)
        if vma is None or a.length > _MOVED_AT_MOST * self._geometry.pmd_span:
            return
        within = min(a.length, vma.end * self._page - a.start)
        lengths = (a.length, within, within, within, within + 3 * self._page, max(within // 2, 1))
        length = a.length if a.variant == 0 else within
        new_length = (lengths[a.variant] + self._page - 1) // self._page * self._page
        keeps = a.variant == 1
        target = a.start if a.variant > 3 and a.target > a.start else a.target
        if target == a.start:
            free_above = not self._mapped(a.start + length, max(new_length - length, self._page))
            ends = a.start + length == vma.end * self._page
            if a.variant < 4 or (new_length > length and not (ends and free_above)):
                return
        elif target < a.start + length and a.start < target + new_length:
            return
        flags = _MAYMOVE | (_DONTUNMAP if keeps else 0)
        self._tell(self._script().remap(a.start, length, target, new_length, flags))
        self.process.remap(a.start, length, target, new_length, dontunmap=keeps)

    def _fork(self, _: Action) -> "Both":
        child = Both(self.table.fork(), self.process.fork())
        child._break = self._break
        return child

    def assert_same(self) -> None:
        """Assert that the table and the specification agree in everything that both have."""
        table, process = self.table, self.process
        pages = table.pages()
        bits = np.unpackbits(pages.present.view(np.uint8), axis=1, bitorder="little")
        rows, entries = np.nonzero(bits)
        assert (pages.slots[rows] // self._page + entries).tolist() == sorted(
            process.tables.entries
        )
        for policy in Policy:
            assert table.slots_of(policy).tolist() == sorted(process.tables.slots(policy))
            assert table.counter(Counter.EMPTY + policy) == len(process.tables.empty(policy))
            assert table.counter(Counter.FREED + policy) == process.tables.freed[policy]
            assert table.counter(Counter.ATTEMPTS + policy) == process.tables.attempts[policy]
        assert table.counter(Counter.SWITCHES) == process.tables.grace_periods
        upper = process.tables.upper[table.running]
        for level in range(2, self._geometry.levels):
            bases = sorted(base for at, base in upper if at == level)
            assert table.upper_bases(level).tolist() == bases
        known = table.vmas()
        spans = zip(
            (known["start"] // self._page).tolist(),
            (known["end"] // self._page).tolist(),
            strict=True,
        )
        assert list(spans) == [(vma.start, vma.end) for vma in process.vmas.all]
        assert process.tables.mm.nr_ptes == len(process.tables.mm.pmds)
