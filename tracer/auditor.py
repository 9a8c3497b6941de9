"""Audits of one shadow: read, compare, make sure, repair, add up.

A difference counts when it is still there after the events have been taken and
the slot was read again, with no event on it in between. Slots in motion are
left out of that audit, and are looked at by the next.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from shadow.events import EventBatch, Kind, kinds_of
from shadow.follow import Following
from shadow.geometry import SLOT
from shadow.records import Facts, Mappings, Repair
from shadow.table import Counter, Pages, Ranges, Table
from tracer.audit import Difference, candidates, compare
from tracer.causes import Causes
from tracer.census import Reader
from tracer.drift import Readings
from tracer.kernel import vm_pte_kib
from tracer.looks import Looks
from tracer.motion import MARGIN_NS, Motion, union
from tracer.target import Target

__all__ = ("Auditor",)

_ROUNDS = 4
_KIB_PER_PAGE = 4
_REREAD_EVERY_NS = 100_000_000

_NOWHERE = np.empty(0, np.int64)
_Settled = tuple[Pages, npt.NDArray[np.void]]


def _same(before: Facts, after: Facts) -> bool:
    """Whether a reading between the two has corrected nothing."""
    return (before.audit.repaired, before.audit.pte_pages_diff, before.unplaced) == (
        after.audit.repaired,
        after.audit.pte_pages_diff,
        after.unplaced,
    )


def _added(total: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    return {cause: total.get(cause, 0) + more.get(cause, 0) for cause in total | more}


class Auditor:
    """Keeps a shadow honest.

    Args:
        target: the process.
        following: its shadow.
        reader: how its page tables are read.
        take: takes the events that have come; returns how many.
        drift_every: seconds between two looks whether the process drifts without events.
        readings: what readings for drift may take together with others.
    """

    def __init__(
        self,
        target: Target,
        following: Following,
        reader: Reader,
        take: Callable[[], int],
        drift_every: float,
        readings: Readings,
    ) -> None:
        self._target, self._following = target, following
        self._reader, self._take = reader, take
        self._motion = Motion()
        self._unplaced_at_seed = self._seeds = 0
        self._lost = False
        """Events are missing, so anything may be wrong."""
        self._next_reread = 0
        self._looks = Looks(target, following, int(drift_every * 1e9), readings)
        self._causes = Causes(target)

    @property
    def _table(self) -> Table:
        return self._following.table

    def seeded(self, vm_pte_kib: int) -> None:
        """The table was seeded; `vm_pte_kib` was read at the end of that."""
        self._seeds += 1
        unplaced = 0
        if not self._reader.exact:
            # What VmPTE has more than the shadow was there before and maps nothing.
            unplaced = max(self._pages_by_vm_pte(vm_pte_kib) - self._placed(), 0)
        self._unplaced_at_seed = unplaced
        self._following.update(unplaced=unplaced)
        self._rest()

    def seeding(self) -> None:
        """The table has just been read; the events since then come next."""
        self._motion, self._lost = Motion(), False

    def distrust(self) -> None:
        """Whatever was read may be wrong: read everything again at the next occasion."""
        self._lost = True

    def note(self, events: EventBatch) -> None:
        """Take notice of events that the table was fed with."""
        self._motion.note(events)
        self._lost = self._lost or Kind.LOSS in kinds_of(events)

    @property
    def unsettled(self) -> bool:
        """Whether something is to be read again at the next occasion."""
        return self._lost or bool(self._motion.doubtful) or self._looks.suspicious

    def look_soon(self) -> None:
        """Look for drift at the next occasion."""
        self._looks.due_at = 0

    def _placed(self) -> int:
        return self._table.counter(Counter.TABLES + self._table.running)

    def _pages_by_vm_pte(self, vm_pte_kib: int) -> int:
        """PTE pages of the process: VmPTE less the upper levels and the deposits."""
        above = (Counter.PMD_PAGES, Counter.PUD_PAGES, Counter.DEPOSITS)
        return vm_pte_kib // _KIB_PER_PAGE - sum(map(self._table.counter, above))

    def follow_up(self) -> None:
        """Read again what calls and losses have made uncertain, and no more.

        What is in motion then is read again in its turn. Now and then it looks
        whether the process drifts without events.
        """
        now = time.monotonic_ns()
        doubtful = self._motion.doubtful
        if (doubtful or self._lost) and now >= self._next_reread:
            self._motion.doubtful = []
            self._check(None if self._lost else union(doubtful))
            self._next_reread = time.monotonic_ns() + _REREAD_EVERY_NS
        elif now >= self._looks.due_at:
            self._look(now)

    def _look(self, now: int) -> None:
        """Look for drift, and read everything again if there is some."""
        if self._looks.look(now, self._take):
            known = self._following.facts
            self._check(None)
            self._looks.have_read(now, in_vain=_same(known, self._following.facts))

    def _rest(self) -> None:
        """Everything was read."""
        with suppress(OSError):
            self._looks.rest()
            self._causes.rest()

    def audit(self) -> None:
        """Compare everything, repair, and count it as a run."""
        seeds = self._seeds
        self._check(None)
        if self._seeds == seeds:  # not cut short by an execve
            total = self._following.facts.audit
            self._following.update(audit=replace(total, runs=total.runs + 1))

    def _check(self, within: Ranges | None) -> None:
        """Compare what lies `within`, repair what differs, add it to the total."""
        try:
            found, real, settled = self._compare(within)
        finally:
            self._motion.reading_since = 0
        pages = abs(found.pte_pages)
        if not self._reader.exact:
            pages = self._resolve_unplaced()
        total = self._following.facts.audit
        total = replace(
            total,
            method="census" if self._reader.exact else "counted",
            pte_pages_diff=total.pte_pages_diff + pages,
            empty_missing=total.empty_missing + found.empty_missing,
            empty_extra=total.empty_extra + found.empty_extra,
            refs_diff=total.refs_diff + found.wrong,
            repaired=total.repaired + len(found.slots),
            causes=_added(total.causes, found.causes),
            empty_causes=_added(total.empty_causes, found.empty_causes),
        )
        self._following.update(audit=total)
        if len(found.slots):
            self._following.apply(Repair(time.monotonic_ns(), real))
        if settled is not None:
            self._settle(*settled)
        if within is None:
            self._rest()
        self._following.update(vm_pte_kib=vm_pte_kib(self._target.pid))

    def _settle(self, real: Pages, vmas: npt.NDArray[np.void]) -> None:
        """Take over upper levels and VMAs that were read while no mapping changed."""
        wrong = self._table.vmas_wrong(vmas)
        read = time.monotonic_ns(), real.pmd_bases, real.pud_bases
        if not wrong:
            self._following.apply(Mappings(*read))
            return
        self._following.apply(Mappings(*read, vmas, self._target.program_break()))
        total = self._following.facts.audit
        self._following.update(audit=replace(total, vmas_diff=total.vmas_diff + wrong))

    def _compare(self, within: Ranges | None) -> tuple[Difference, Pages, _Settled | None]:
        """Compare until what differs stays so.

        Returns:
            The difference; the truth where it lies; and the whole truth with the
            VMAs, if it was read while no mapping changed.
        """
        seeds = self._seeds
        mappings = 0
        settled, again = None, within is not None or self._lost
        for attempt in range(_ROUNDS):
            while self._take():
                pass
            begin = self._motion.reading_since = time.monotonic_ns()
            vmas = self._target.vmas()
            if self._lost:
                brk = self._target.program_break()
                self._following.apply(Mappings(begin, vmas=vmas, brk=brk))
                self._lost = False
            # A long reading must not let the ring run full.
            real = self._reader.pages(self._target, vmas, within=within, between=self._take)
            while self._take():
                pass
            if self._seeds != seeds:  # it has called execve: this was read of the old tables
                return Difference(_NOWHERE), real.restricted((_NOWHERE, _NOWHERE)), None
            shadow = self._table.pages()
            slots = candidates(shadow, real)
            moving = self._motion.moving(slots, begin)
            if again and moving.any():
                self._motion.doubtful.append((slots[moving], slots[moving] + SLOT))
            called = self._motion.called(slots)
            found = compare(self._table, real, shadow=shadow, moving=moving, called=called)
            if not found.explained:
                pinning = self._causes.pinning(found.causes.get("unknown", 0))
                called |= self._causes.by_place(slots)
                found = compare(
                    self._table, real,
                    shadow=shadow, moving=moving, called=called, pinning=pinning,
                )  # fmt: skip
            if real.pmd_bases is not None and not self._motion.mappings_moving(begin):
                settled, mappings = (real, vmas), self._mapping_events()
            if not len(found.slots):
                break
            within = found.slots, found.slots + SLOT
            if attempt < _ROUNDS - 1:
                time.sleep(MARGIN_NS / 1e9)
        if self._mapping_events() != mappings:
            settled = None  # the whole truth has grown old while a part was read again
        return found, real.restricted((found.slots, found.slots + SLOT)), settled

    def _mapping_events(self) -> int:
        """How many events there were that may have changed VMAs or upper levels."""
        return self._following.events - self._table.counter(Counter.EVENTS + Kind.FAULT)

    def _resolve_unplaced(self) -> int:
        """How far the number of PTE pages is off, where only the number is known."""
        real = self._pages_by_vm_pte(vm_pte_kib(self._target.pid))
        # Of the empty PTE pages from before, some may have been used or freed.
        unplaced = min(max(real - self._placed(), 0), self._unplaced_at_seed)
        self._following.update(unplaced=unplaced)
        return abs(real - self._placed() - unplaced)
