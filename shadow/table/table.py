# SPDX-License-Identifier: GPL-2.0-only
"""The table of one address space: events in, numbers out."""

import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from shadow.events import UNFILLED, EventBatch, Kind, kinds_of
from shadow.geometry import X86_64, Geometry
from shadow.memory_limit import NoRoomError, Room
from shadow.policy import Policy
from shadow.table.adopt import adopt, adopt_upper_levels
from shadow.table.clock import advance, area_until
from shadow.table.contents import huge_pages, pte_pages, upper_bases
from shadow.table.counters import Counter
from shadow.table.fork import copy_address_space
from shadow.table.growing import GrowingState
from shadow.table.loop import run as apply_events
from shadow.table.origin_codes import READING
from shadow.table.page_set import Pages, Ranges, in_slots
from shadow.table.seed import set_runs
from shadow.table.state import HugePages, State, grown, new_state
from shadow.table.vma_readings import DescribedVma, merges_wrong, seed_vmas, wrong_vmas

__all__ = ("Table",)

_FILLS = 1 << 39
"""Bytes that calls of a live process may fill without a reading: 512 GiB. A `Room` of the
default size allows more, so a recorded trace can be replayed."""
_TRIAL = 1 << 17
"""Limit on the mappings in a simulation: twice the default vm.max_map_count."""
_COUNTED_ONCE = (
    Counter.NOW,
    Counter.LOST,
    Counter.SWITCHES,
    Counter.NO_EFFECT,
    Counter.FILLED,
    Counter.FILLED_AT,
)
_NO_HUGE_PAGES = HugePages()
_COUNTED_BY_POLICY = (
    Counter.FREED,
    Counter.INFERRED,
    Counter.REALLOCATED,
    Counter.ATTEMPTS,
    Counter.PEAK,
)


class Table(GrowingState):
    """One address space: VMAs, upper levels, PTE pages.

    Args:
        geometry: the shape of the page tables.
        running: the policy of the kernel that produced the events.
        huge: the settings under which anonymous faults map more than a page.
        switch_back: whether a failed attempt of pte_ref goes back to percpu mode, as in the
            posted RFC; by default it stays in atomic mode, as in the author's correction.
        room: limit on the memory, for untrusted records.
    """

    def __init__(
        self,
        *,
        geometry: Geometry = X86_64,
        running: Policy = Policy.NONE,
        huge: HugePages = _NO_HUGE_PAGES,
        switch_back: bool = False,
        room: Room | None = None,
    ) -> None:
        self.geometry, self._running, self._huge_pages = geometry, running, huge
        self._switch_back = switch_back
        self._most_fills = room.fills(geometry) if room else _FILLS >> geometry.slot_shift
        super().__init__(self._new_state(), room)

    def _new_state(self) -> State:
        state = new_state(self.geometry, self._running, self._huge_pages)
        state.counters[Counter.POSTED_SWITCH_BACK] = self._switch_back
        state.counters[Counter.FILLS_MOST] = self._most_fills
        return state

    @property
    def running(self) -> Policy:
        """The policy of the kernel that produced the events."""
        return self._running

    def reset(self) -> None:
        """Forget the address space (exec), but keep the counts."""
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
        """The address space of a child forked now, with all counts at 0."""
        child = Table(
            geometry=self.geometry,
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
        """A copy to simulate a change; it raises NoRoomError if it gets too many mappings."""
        table = copy.deepcopy(self)
        table._room, table._most_mappings = None, _TRIAL
        return table

    def feed(self, events: EventBatch) -> None:
        """Apply a batch of events, in order.

        EXEC resets the address space; the caller should then seed it, if possible. Calls that
        claim to fill too much become `UNFILLED`, also in the batch.

        Raises:
            NoRoomError: the events would take more memory than the `room` has.
        """
        if Kind.EXEC not in kinds_of(events):
            self._run(events)
            return
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
                raise NoRoomError("a call fills more than a trace of this length can show")
            events["aux"][at] |= UNFILLED

        def advance(first: int) -> int:
            done = apply_events(self.state, events, first)
            while self.state.counters[Counter.REFUSED]:
                leave_unfilled(done)
                done = apply_events(self.state, events, done)
            return done

        self.run(advance, len(events))

    def seed_vmas(self, vmas: npt.NDArray[np.void], brk: int) -> None:
        """Replace the known VMAs by these; the entries must be known already.

        Args:
            vmas: (n,) of `VMA`, sorted; `anon` is a number, NO_ANON, or 0 if it is not set.
            brk: address of the program break; 0: unknown.
        """
        seed_vmas(self, vmas, brk)

    def wrong_vmas(self, real: npt.NDArray[np.void]) -> set[DescribedVma]:
        """The VMAs that only the shadow or only the reading has.

        Args:
            real: (n,) of `VMA`; those without a set `anon` come from /proc, which shows no
                flags except the access.
        """
        return wrong_vmas(self.vmas(), real)

    def merges_wrong(self, real: npt.NDArray[np.void]) -> bool:
        """Whether the shadow's VMAs, equal to the real ones, would merge differently."""
        return merges_wrong(self.vmas(), real)

    @classmethod
    def of_runs(
        cls,
        starts: npt.NDArray[np.int64],
        ends: npt.NDArray[np.int64],
        huge: npt.NDArray[np.uint8],
        geometry: Geometry = X86_64,
    ) -> "Table":
        """Page tables with exactly these runs of entries that are not none.

        Args:
            starts: (n,) first address of each run, bytes.
            ends: (n,) end of each run.
            huge: (n,) 0 for entries of PTE pages, HUGE_ANON or HUGE_FILE for leaf PMDs.
            geometry: the shape of the page tables.
        """
        table = cls(geometry=geometry)
        table.run(lambda first: set_runs(table.state, starts, ends, huge, first), len(starts))
        return table

    def pages(self, policy: Policy | None = None, *, exact: bool = True) -> Pages:
        """The PTE pages of a policy, by default the running kernel's, and the leaf PMDs.

        For `exact` see `Pages`.
        """
        pages = self._pte_pages(policy)
        pages = pages[np.argsort(pages["slot"])]
        huge = huge_pages(self.state)
        return Pages(
            slots=pages["slot"],
            present=pages["present"],
            huge=huge["slot"],
            huge_kind=huge["huge"],
            exact=exact,
        )

    def advance(self, now: int) -> None:
        """Integrate the PTE pages of each policy up to `now` (ns)."""
        advance(self.state, now)

    def page_ns(self, until: int) -> npt.NDArray[np.float64]:
        """The integral of PTE pages over time up to `until` (ns), if no event comes before.

        Returns:
            (policies + 1,) PTE pages x ns of each `Policy`, and last the ns observed.
        """
        return area_until(self.state, until)

    def seed(self, real: Pages, now: int) -> None:
        """Adopt a reading of time `now` (ns) and observe from then on.

        The time since the last event was not observed, so it counts for no policy.
        """
        self.state.counters[Counter.NOW] = max(self.state.counters[Counter.NOW], now)
        self.adopt(real, now)
        records = self.state.records
        records["made"][records["made_call"] == READING] = 0  # before the window

    def adopt(self, real: Pages, now: int) -> None:
        """Replace the content by a reading of time `now` (ns).

        Parts that `real` does not cover stay, and so do lazyfree entries that still exist.
        """
        adopt(self, real, now)

    def adopt_upper(
        self,
        pmd_bases: npt.NDArray[np.int64] | None,
        pud_bases: npt.NDArray[np.int64] | None,
    ) -> None:
        """Adopt the PMD and PUD pages, if they were read; see `Pages`."""
        adopt_upper_levels(self, pmd_bases, pud_bases)

    def upper_bases(self, level: int) -> npt.NDArray[np.int64]:
        """(n,) first addresses of the running kernel's tables of this level; PMD is 2."""
        return upper_bases(self.state, level)

    def guards(self) -> Ranges:
        """The ranges of guard markers, each in one slot."""
        known = self.state.guards[: self.counter(Counter.GUARDS)]
        return in_slots(known[:, 0], known[:, 1], self.geometry.slot)

    def _pte_pages(self, policy: Policy | None = None) -> npt.NDArray[Any]:
        """(n,) of `record_type`: records with a PTE page (default: under the running kernel)."""
        return pte_pages(self.state, self._running if policy is None else policy)

    def slots_of(self, policy: Policy) -> npt.NDArray[np.int64]:
        """(n,) sorted first addresses of the slots that have a PTE page under a policy."""
        return np.sort(self._pte_pages(policy)["slot"])

    def occupancy(self, policy: Policy | None = None) -> npt.NDArray[np.int64]:
        """(entries + 1,) numbers of PTE pages (default: the running kernel's) by their entries."""
        return np.bincount(self._pte_pages(policy)["refs"], minlength=self.geometry.entries + 1)

    def lazyfree_only(self, policy: Policy | None = None) -> int:
        """The number of PTE pages (default: the running kernel's) with lazyfree entries only."""
        pages = self._pte_pages(policy)
        return int(np.count_nonzero((pages["refs"] > 0) & (pages["refs"] == pages["lazies"])))

    def empty_slots(self, policy: Policy | None = None) -> npt.NDArray[np.int64]:
        """(n,) sorted first addresses of the slots with an empty PTE page."""
        pages = self._pte_pages(policy)
        return np.sort(pages["slot"][pages["refs"] == 0])
