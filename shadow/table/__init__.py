# SPDX-License-Identifier: GPL-2.0-only
"""The shadow page table of one address space, fed with events.

As in hardware: a PGD, PUD pages and PMD pages of 512 entries each, and below
each PMD entry the record of a PTE page with the 512-bit map of its entries
that are not none. One pass over the events answers for the three policies at
once (`shadow.policy`).
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from shadow.events import EVENT, UNFILLED, EventBatch, Kind
from shadow.geometry import ENTRIES, ENTRY_BITS, PAGE_SHIFT
from shadow.memory_limit import NoRoomError, Room
from shadow.policy import Policy
from shadow.table.clock import advance, area_until
from shadow.table.fills import drain
from shadow.table.fork import copy_address_space
from shadow.table.jit import compiling, forget_compiling
from shadow.table.labels import NOT_MERGEABLE
from shadow.table.loop import run
from shadow.table.origin import READING, note_reading
from shadow.table.page_set import Pages, Ranges, in_slots, overlapping
from shadow.table.radix import PMD_LEVEL, PUD_LEVEL
from shadow.table.seed import (
    adopt_guards,
    adopt_huge,
    adopt_pages,
    adopt_upper,
    drop_pages,
    drop_upper_tables,
    forget_unmapped,
    forget_untouched,
    set_runs,
)
from shadow.table.state import (
    ALL_FLAGS,
    HUGE_ANON,
    HUGE_FILE,
    KNOWN_FILE,
    NO_ANON,
    NOT_COMPARED,
    UFFD_FLAGS,
    VMA,
    Counter,
    HugePages,
    LabelPart,
    State,
    VmaFlag,
    grown,
    new_state,
)

__all__ = (
    "ALL_FLAGS",
    "HUGE_ANON",
    "HUGE_FILE",
    "KNOWN_FILE",
    "UFFD_FLAGS",
    "NO_ANON",
    "VMA",
    "Counter",
    "HugePages",
    "LabelPart",
    "Pages",
    "Ranges",
    "Table",
    "VmaFlag",
    "overlapping",
    "prepare",
)

_FIRST_GROWTH = 16
_FILLS = 1 << 18
"""Slots that calls of a live process may fill without a reading: 512 GiB; less than in any
`Room` of the usual size, so that what is recorded can be replayed."""
_TRIAL = 1 << 18
"""Mappings that a change may lead to: four times vm.max_map_count."""
_COUNTED_ONCE = (
    Counter.NOW,
    Counter.LOST,
    Counter.SWITCHES,
    Counter.NO_EFFECT,
    Counter.FILLED,
    Counter.FILLED_AT,
)
_ACCESS = VmaFlag.READ | VmaFlag.WRITE | VmaFlag.EXEC
_NOT_READ = VmaFlag.SPECIAL | VmaFlag.UFFD_MINOR
"""Flags of which a reading does not say all: SPECIAL stands for more than VM_SPECIAL, too."""
_EVERYWHERE = 1 << 62
_NO_HUGE_PAGES = HugePages()
_COUNTED_BY_POLICY = (
    Counter.FREED,
    Counter.INFERRED,
    Counter.REALLOCATED,
    Counter.ATTEMPTS,
    Counter.PEAK,
)


def _described(vmas: npt.NDArray[Any], told: int) -> set[tuple[int, int, int]]:
    """VMAs as places and these of their flags."""
    columns = (vmas["start"].tolist(), vmas["end"].tolist(), (vmas["flags"] & told).tolist())
    return set(zip(*columns, strict=True))


class Table:
    """One address space: VMAs, upper levels, PTE pages.

    Args:
        levels: page-table levels, 4 or 5.
        running: the policy of the kernel that the events come from.
        huge: where anonymous faults map more than a page.
        switch_back: whether a failed attempt of pte_ref goes back to percpu mode, as
            the RFC was posted; by default as its author corrected it.
        room: the memory that it may take, where its records are not to be trusted.
    """

    def __init__(
        self,
        *,
        levels: int = 4,
        running: Policy = Policy.NONE,
        huge: HugePages = _NO_HUGE_PAGES,
        switch_back: bool = False,
        room: Room | None = None,
    ) -> None:
        self._levels, self._running, self._huge_pages = levels, running, huge
        self._switch_back, self._room = switch_back, room
        self._mappings = room.mappings if room else None
        self.state = self._new_state()

    def _new_state(self) -> State:
        state = new_state(self._levels, self._running, self._huge_pages)
        state.counters[Counter.POSTED_SWITCH_BACK] = self._switch_back
        state.counters[Counter.FILLS_MOST] = self._room.fills if self._room else _FILLS
        return state

    @property
    def running(self) -> Policy:
        """The policy of the kernel that the events come from."""
        return self._running

    def reset(self) -> None:
        """Forget the address space (exec); what was counted stays counted."""
        old = self.state
        self.state = self._new_state()
        counted = slice(Counter.EVENTS, Counter.EVENTS + 32)
        self.state.counters[counted] = old.counters[counted]
        for policy in Policy:
            for counter in _COUNTED_BY_POLICY:
                self.state.counters[counter + policy] = old.counters[counter + policy]
        for counter in _COUNTED_ONCE:
            self.state.counters[counter] = old.counters[counter]
        self.state.area[:] = old.area

    def fork(self) -> "Table":
        """The address space of a child that is forked now; nothing is counted in it yet."""
        child = Table(
            levels=self._levels,
            running=self._running,
            huge=self._huge_pages,
            switch_back=self._switch_back,
        )
        used = self.state.counters
        child.state = grown(
            child.state,
            tables=int(used[Counter.TABLES_USED]),
            records=int(used[Counter.RECORDS_USED]),
            vmas=int(used[Counter.VMAS]),
            guards=2 * int(used[Counter.GUARDS]),
        )
        copy_address_space(self.state, child.state)
        return child

    def trial(self) -> "Table":
        """A copy, to try on what its process did; it has an end where mappings are too many."""
        table = copy.deepcopy(self)
        table._room, table._mappings = None, _TRIAL
        return table

    def feed(self, events: EventBatch) -> None:
        """Apply a batch of events, in order.

        EXEC resets the address space; whoever can should seed it after that. Calls that
        claim to fill too much become `UNFILLED`, in the batch, too.

        Raises:
            NoRoomError: they would take more than the `room` there is.
        """
        begin = 0
        for at in np.flatnonzero(events["kind"] == Kind.EXEC).tolist():
            self._run(events[begin : at + 1])
            self.reset()
            begin = at + 1
        self._run(events[begin:])

    def _run(self, events: EventBatch) -> None:
        def leave_unfilled(at: int) -> None:
            self.state.counters[Counter.REFUSED] = 0
            if self._room:
                raise NoRoomError("a call fills more than so short a trace can tell of")
            events["aux"][at] |= UNFILLED

        def advance(first: int) -> int:
            done = run(self.state, events, first)
            while self.state.counters[Counter.REFUSED]:
                leave_unfilled(done)
                done = run(self.state, events, done)
            return done

        self._to_the_end(advance, len(events))

    def _to_the_end(self, advance: Callable[[int], int], count: int) -> None:
        """Call `advance(first)` until it returns `count`, growing the arrays in between."""
        done, spare = advance(0), _FIRST_GROWTH
        while done < count:
            self._grow(spare)
            before, done = done, advance(done)
            # One event alone may need more than that.
            spare = _FIRST_GROWTH if done > before else spare * 2

    def _grow(self, spare: int) -> None:
        """Lengthen whatever has less than `spare` left."""
        counters = self.state.counters
        if self._room:
            self._room.claim(self, self._used_bytes())
        if self._mappings is not None and self.counter(Counter.VMAS) > self._mappings:
            raise NoRoomError(f"its process has more than {self._mappings:,} mappings")
        self.state = grown(
            self.state,
            tables=int(counters[Counter.TABLES_USED]) + spare // 8,  # 2 KiB each
            records=int(counters[Counter.RECORDS_USED]) + spare,
            vmas=int(counters[Counter.VMAS]) + spare,
            guards=int(counters[Counter.GUARDS]) + spare,
        )

    def seed_vmas(self, vmas: npt.NDArray[np.void], brk: int) -> None:
        """Take these VMAs instead of those known; the entries must be known already.

        Which of them share an anon_vma, and so may merge, /proc does not tell.
        Where `anon` is not set, it is guessed: neighbours that differ in access alone
        nearly always do (mm/vma.c, reusable_anon_vma); alike ones do not, or they
        would be one.

        Args:
            vmas: (n,) of `VMA`, sorted; `anon` is a number, NO_ANON, or 0: not set.
            brk: the program break, bytes, or 0 if it is not known.
        """
        count, before = len(vmas), self._anon_vmas_before(vmas)
        self.state = grown(self.state, vmas=count + _FIRST_GROWTH)
        s = self.state
        s.vmas[:count] = vmas
        known = int(before.max(initial=0)) + 1
        others = vmas["flags"] & ~(_ACCESS | VmaFlag.ACCOUNT)
        apart = np.ones(count, np.bool_)
        apart[1:] = (vmas["start"][1:] != vmas["end"][:-1]) | (others[1:] != others[:-1])
        apart[1:] |= (vmas["file"][:-1] != 0) | (vmas["flags"][1:] == vmas["flags"][:-1])
        guessed = np.where(vmas["file"] == 0, np.cumsum(apart) + known, 0)
        s.vmas["anon"][:count] = np.where(before == 0, guessed, np.maximum(before, 0))
        s.counters[Counter.ANON_VMAS] = known + count
        numbered = vmas["file"][vmas["file"] & KNOWN_FILE == 0]
        s.counters[Counter.FILES] = max(s.counters[Counter.FILES], numbered.max(initial=0))
        private = vmas["flags"][vmas["flags"] & NOT_MERGEABLE == 0] & VmaFlag.MERGEABLE
        s.counters[Counter.MERGE_ANY] = len(private) > 0 and private.all()
        s.counters[Counter.VMAS] = count
        s.counters[Counter.VMAS_KNOWN] = 1
        s.counters[Counter.BRK] = brk
        forget_untouched(s, known + 1)
        forget_unmapped(s)

    def _anon_vmas_before(self, vmas: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
        """The `anon` of these VMAs, where events have brought one since they were read, with it.

        An anon_vma comes with a fault and goes with its VMA, so a reading that has none
        is older than one that the shadow has.
        """
        anon = vmas["anon"].astype(np.int64)
        known = self.state.vmas[: self.counter(Counter.VMAS)]
        at = np.minimum(np.searchsorted(known["start"], vmas["start"]), max(len(known) - 1, 0))
        if len(known):
            same = (known["start"][at] == vmas["start"]) & (known["end"][at] == vmas["end"])
            private = vmas["flags"] & VmaFlag.SHARED == 0
            later = same & (anon == NO_ANON) & (known["anon"][at] > 0) & private
            anon[later] = known["anon"][at][later] + max(anon.max(initial=0), 0)
        return anon

    def vmas_wrong(self, real: npt.NDArray[np.void]) -> int:
        """How many boundaries or flags of VMAs differ from the real ones.

        Args:
            real: (n,) of `VMA`; where `anon` is not set it was read from /proc, which says
                of flags the access only.
        """
        known = self.state.vmas[: self.counter(Counter.VMAS)]
        told = (
            ALL_FLAGS & ~(NOT_COMPARED | _NOT_READ)
            if real["anon"].all()
            else _ACCESS | VmaFlag.SHARED
        )
        return len(_described(known, told) ^ _described(real, told))

    def merges_wrong(self, real: npt.NDArray[np.void]) -> bool:
        """Whether the shadow's VMAs, equal to the real ones, would merge otherwise than they."""
        known = self.state.vmas[: self.counter(Counter.VMAS)]
        if not real["anon"].all():
            return False
        pairs = [(known, real), (known[1:], real[1:])]
        (ours, theirs), (our_next, their_next) = pairs
        differs = ((ours["flags"] ^ theirs["flags"]) & ~ALL_FLAGS != 0).any()
        touching = theirs["end"][:-1] == their_next["start"]
        for column in ("file", "anon"):
            one = ours[column][:-1] == our_next[column]
            other = theirs[column][:-1] == their_next[column]
            if column == "anon":  # one may have come since they were read
                touching &= (theirs[column][:-1] != NO_ANON) & (their_next[column] != NO_ANON)
            differs |= ((one != other) & touching).any()
        return bool(differs)

    @classmethod
    def of_runs(
        cls,
        starts: npt.NDArray[np.int64],
        ends: npt.NDArray[np.int64],
        huge: npt.NDArray[np.uint8],
    ) -> "Table":
        """The page tables that hold these runs of entries that are not none, and no more.

        Args:
            starts: (n,) first address of each run, bytes.
            ends: (n,) end of each run.
            huge: (n,) 0 for entries of PTE pages, HUGE_ANON or HUGE_FILE for leaf PMDs.
        """
        table = cls()
        table._to_the_end(
            lambda first: set_runs(table.state, starts, ends, huge, first), len(starts)
        )
        return table

    def pages(self, *, exact: bool = True) -> Pages:
        """The PTE pages and leaf PMDs of the running kernel; `exact` as `Pages` has it."""
        pages = self._pte_pages()
        pages = pages[np.argsort(pages["slot"])]
        huge = self._huge()
        return Pages(
            slots=pages["slot"],
            present=np.ascontiguousarray(pages["present"]),
            huge=huge["slot"],
            huge_kind=huge["huge"],
            exact=exact,
        )

    def advance(self, now: int) -> None:
        """Integrate the PTE pages of each policy up to `now` (ns)."""
        advance(self.state, now)

    def page_ns(self, until: int) -> npt.NDArray[np.float64]:
        """PTE pages integrated over time, if nothing comes before `until` (ns).

        Returns:
            (policies + 1,) PTE pages x ns of each `Policy`, and last the ns observed.
        """
        return area_until(self.state, until)

    def seed(self, real: Pages, now: int) -> None:
        """Adopt what was read at `now` (ns) and observe from then on.

        The time since the last event was not observed, and no policy is charged for it.
        """
        self.state.counters[Counter.NOW] = max(self.state.counters[Counter.NOW], now)
        self.adopt(real, now)
        records = self.state.records
        records["made"][records["made_call"] == READING] = 0  # before the window

    def adopt(self, real: Pages, now: int) -> None:
        """Take over what was read at time `now` (ns), in place of what was known.

        What `real` does not cover stays; lazyfree entries that still exist too.
        """
        self.advance(now)
        note_reading(self.state)
        drain(self.state, len(real.slots), real.within is None)
        known = self._pte_pages()
        if not real.exact:
            known = known[known["refs"] > 0]
        before = np.concatenate([known["slot"], self._huge()["slot"]])
        gone = np.setdiff1d(before, np.concatenate([real.slots, real.huge]))
        if real.within:
            gone = gone[overlapping(gone, real.within)]
        drop_pages(self.state, gone, real.exact)
        used = self.counter(Counter.RECORDS_USED)
        if not len(known):  # a seed: as many as there are, and not a quarter more
            self.state = grown(self.state, records=used + len(real.slots) + _FIRST_GROWTH)
        self._to_the_end(
            lambda first: adopt_pages(self.state, real.slots, real.present, first), len(real.slots)
        )
        self._to_the_end(
            lambda first: adopt_huge(self.state, real.huge, real.huge_kind, first), len(real.huge)
        )
        if real.guards is not None:
            self._adopt_guards(real.guards, real.within)
        self.adopt_upper(real.pmd_bases, real.pud_bases)

    def _adopt_guards(self, guards: Ranges, within: Ranges | None) -> None:
        """Take over the guard markers of the ranges that were read."""
        if within is None:
            within = np.zeros(1, np.int64), np.full(1, _EVERYWHERE)
        more = len(guards[0]) + len(within[0]) + _FIRST_GROWTH
        self.state = grown(self.state, guards=self.counter(Counter.GUARDS) + more)
        adopt_guards(self.state, *within, *guards)

    def adopt_upper(
        self,
        pmd_bases: npt.NDArray[np.int64] | None,
        pud_bases: npt.NDArray[np.int64] | None,
    ) -> None:
        """Take over the PMD and PUD pages, where they were read; see `Pages`."""
        if pmd_bases is not None:
            self._adopt_level(pmd_bases, PMD_LEVEL)
        if pud_bases is not None:
            self._adopt_level(pud_bases, PUD_LEVEL)

    def _adopt_level(self, bases: npt.NDArray[np.int64], level: int) -> None:
        drop_upper_tables(self.state, np.setdiff1d(self.upper_bases(level), bases), level)
        self._to_the_end(lambda first: adopt_upper(self.state, bases, level, first), len(bases))

    def upper_bases(self, level: int) -> npt.NDArray[np.int64]:
        """(n,) first addresses of the running kernel's tables of this level; PMD is 2."""
        tables, bases = np.zeros(1, np.int64), np.zeros(1, np.int64)
        for above in range(self._levels, level, -1):
            children = self.state.upper["child"][tables]
            rows, columns = np.nonzero(children)
            tables = children[rows, columns]
            bases = bases[rows] + (columns << (PAGE_SHIFT + ENTRY_BITS * (above - 1)))
        return bases[self.state.upper["real"][tables] == 1]

    def guards(self) -> Ranges:
        """Where guard markers are, each range in one slot."""
        known = self.state.guards[: self.counter(Counter.GUARDS)]
        return in_slots(known[:, 0], known[:, 1])

    def counter(self, counter: int) -> int:
        """One number of `Counter` (add a `Policy` for those kept per policy)."""
        return int(self.state.counters[counter])

    def _pte_pages(self, policy: Policy | None = None) -> npt.NDArray[Any]:
        """(n,) of RECORD: those that have a PTE page, by default under the running kernel."""
        records = self.state.records
        return records[(records["live"] >> (self._running if policy is None else policy)) & 1 != 0]

    def _huge(self) -> npt.NDArray[Any]:
        """(n,) of RECORD: the leaf PMDs, ascending."""
        records = self.state.records
        huge = records[records["huge"] != 0]
        return huge[np.argsort(huge["slot"])]

    def slots_of(self, policy: Policy) -> npt.NDArray[np.int64]:
        """(n,) sorted first addresses of the slots that have a PTE page under a policy."""
        records = self.state.records
        return np.sort(records["slot"][(records["live"] >> policy) & 1 != 0])

    def occupancy(self, policy: Policy | None = None) -> npt.NDArray[np.int64]:
        """(513,) how many PTE pages (default: the running kernel's) have 0, 1 ... 512 entries."""
        return np.bincount(self._pte_pages(policy)["refs"], minlength=ENTRIES + 1)

    def lazyfree_only(self, policy: Policy | None = None) -> int:
        """PTE pages (by default of the running kernel) whose every entry is lazyfree."""
        pages = self._pte_pages(policy)
        return int(np.count_nonzero((pages["refs"] > 0) & (pages["refs"] == pages["lazies"])))

    def empty_slots(self, policy: Policy | None = None) -> npt.NDArray[np.int64]:
        """(n,) sorted first addresses of the slots whose PTE page is empty now."""
        pages = self._pte_pages(policy)
        return np.sort(pages["slot"][pages["refs"] == 0])

    def _used_bytes(self) -> int:
        """Bytes of what is in use of the arrays; the rest takes no memory yet."""
        return (
            self.counter(Counter.RECORDS_USED) * self.state.records.itemsize
            + self.counter(Counter.TABLES_USED) * self.state.upper.itemsize
            + self.counter(Counter.VMAS) * self.state.vmas.itemsize
            + self.counter(Counter.GUARDS) * self.state.guards.itemsize * 2
        )

    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.state)


def prepare(*, lean: bool = False) -> None:
    """Compile the loop, or load it from the cache, before time matters.

    Takes one to two minutes the first time on a machine, which the log says then, and 0.1 s
    from then on.

    Args:
        lean: keep 28 MiB less, for whoever compiles nothing of the table's afterwards.
    """
    with compiling("the shadow table, one to two minutes"):
        table = Table()
        table.feed(np.empty(0, EVENT))
        none = np.empty(0, np.int64)
        pages = Table.of_runs(none, none, np.empty(0, np.uint8)).pages()
        table.seed(replace(pages, guards=(none, none)), 0)
        table.adopt_upper(none, none)
        table.seed_vmas(np.empty(0, VMA), 0)
        table.fork()
    if lean:
        forget_compiling()
