# SPDX-License-Identifier: GPL-2.0-only
"""Audit one shadow: read and compare (`tracer.follow.comparer`), repair, add up.

Slots that change during all readings are left out of the sums and counted as not compared.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from shadow.engine import Engine
from shadow.events import EventBatch
from shadow.records import Facts, Mappings, Repair
from shadow.snapshot import COMPARED_ENOUGH
from shadow.table.counters import Counter
from shadow.table.page_set import Pages, Ranges
from shadow.table.table import Table
from tracer.census import Reader
from tracer.follow.causes import Causes
from tracer.follow.comparer import Comparer, Comparison
from tracer.follow.drift import ReadingBudget
from tracer.follow.in_flight import Motion, union
from tracer.follow.looks import Looks
from tracer.probes.progress import Progress
from tracer.process.target import Target
from tracer.procfs import vm_pte_kib

__all__ = ("Auditor",)

_REREAD_EVERY_NS = 100_000_000
_REREAD_SHARE = 0.1
"""The most of a CPU that readings of uncertain slots take, if the process disturbs each of them."""


def _same(before: Facts, after: Facts) -> bool:
    """Whether a reading between the two corrected nothing."""
    return (before.audit.repaired, before.audit.pte_pages_diff, before.unplaced) == (
        after.audit.repaired,
        after.audit.pte_pages_diff,
        after.unplaced,
    )


def _added(total: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    return {cause: total.get(cause, 0) + more.get(cause, 0) for cause in total | more}


class Auditor:
    """Compares a shadow with the page tables, and repairs it.

    Args:
        target: the process.
        engine: its shadow.
        reader: reads the page tables.
        take: takes new events; returns their number.
        progress: the calls of the process that have not ended.
        drift_every: seconds between two checks for drift without events.
        budget: the CPU that drift readings may use, shared with other processes.
    """

    def __init__(
        self,
        target: Target,
        engine: Engine,
        reader: Reader,
        take: Callable[[], int],
        progress: Callable[[], Progress],
        drift_every: float,
        budget: ReadingBudget,
    ) -> None:
        self._target, self._engine = target, engine
        self._reader, self._take = reader, take
        slot = engine.table.geometry.slot
        self._motion, self._causes = Motion(slot), Causes(target, slot)
        self._comparer = Comparer(
            target, engine, reader, self._motion, self._causes, take, progress
        )
        self._looks = Looks(target, engine, int(drift_every * 1e9), budget)
        self._unplaced_at_seed = self._next_reread = 0

    @property
    def _table(self) -> Table:
        return self._engine.table

    def seeded(self, vm_pte_kib: int) -> None:
        """Note that the table was seeded; `vm_pte_kib` was read at the end of the seeding."""
        unplaced = 0
        if not self._reader.exact:
            # Pages that VmPTE counts beyond those of the shadow are older than the seed, and empty.
            unplaced = max(self._pages_by_vm_pte(vm_pte_kib) - self._placed(), 0)
        self._unplaced_at_seed = unplaced
        self._engine.update(time.monotonic_ns(), unplaced=unplaced)
        self._rest()

    def seeding(self) -> None:
        """Note that the table was just read; the events since then come next."""
        self._motion.forget()

    def distrust(self) -> None:
        """Read everything again in the next `follow_up`, because the last reading may be wrong."""
        self._motion.lost = True

    def note(self, events: EventBatch) -> None:
        """Note events that were applied to the table."""
        self._motion.note(events)

    @property
    def unsettled(self) -> bool:
        """Whether the next `follow_up` reads something again."""
        return self._motion.lost or bool(self._motion.doubtful) or self._looks.suspicious

    def look_soon(self) -> None:
        """Check for drift in the next `follow_up`."""
        self._looks.due_at = 0

    def _placed(self) -> int:
        return self._table.counter(Counter.TABLES + self._table.running)

    def _pages_by_vm_pte(self, vm_pte_kib: int) -> int:
        """Number of PTE pages: VmPTE less the upper levels and the deposits."""
        above = (Counter.PMD_PAGES, Counter.PUD_PAGES, Counter.DEPOSITS)
        return vm_pte_kib // self._table.geometry.page_kib - sum(map(self._table.counter, above))

    def follow_up(self) -> None:
        """Read again only what calls and losses have made uncertain.

        Slots that change meanwhile are read again later. At intervals, this also checks for
        drift without events.
        """
        now = time.monotonic_ns()
        doubtful = self._motion.doubtful
        if (doubtful or self._motion.lost) and now >= self._next_reread:
            self._motion.doubtful = []
            before = time.thread_time_ns()
            self._read_again(None if self._motion.lost else union(doubtful))
            used = time.thread_time_ns() - before
            pause = max(_REREAD_EVERY_NS, int(used / _REREAD_SHARE))
            self._next_reread = time.monotonic_ns() + pause
        elif now >= self._looks.due_at:
            self._look(now)

    def _look(self, now: int) -> None:
        """Check for drift, and read everything again if there is some."""
        if self._looks.look(now, self._take):
            known = self._engine.facts
            self._read_again(None)
            self._looks.have_read(now, in_vain=_same(known, self._engine.facts))

    def _rest(self) -> None:
        """Note that everything was read."""
        with suppress(OSError):
            self._looks.rest()
            self._causes.rest()

    def audit(self, patience_ns: int = 0) -> None:
        """Compare everything, repair it, and count one run.

        Args:
            patience_ns: how long to repeat readings that the process disturbs.
        """
        if outcome := self._check(None, patience_ns):
            total, coverage = self._engine.facts.audit, outcome.coverage
            enough = coverage.suffices(COMPARED_ENOUGH)
            self._engine.update(
                time.monotonic_ns(),
                audit=replace(
                    total,
                    runs=total.runs + 1,
                    incomplete_runs=total.incomplete_runs + (not enough),
                    vmas_runs=total.vmas_runs + (outcome.vmas is not None and outcome.vmas_certain),
                    compared=coverage.compared,
                    not_compared=coverage.not_compared,
                ),
            )

    def _read_again(self, within: Ranges | None) -> None:
        """Check a part between two runs, or everything if events are missing."""
        if outcome := self._check(within):
            still_open = outcome.coverage.open
            if len(still_open):
                self._motion.doubtful.append((still_open, still_open + self._table.geometry.slot))
            total = self._engine.facts.audit
            self._engine.update(
                time.monotonic_ns(), audit=replace(total, rereads=total.rereads + 1)
            )

    def _check(self, within: Ranges | None, patience_ns: int = 0) -> Comparison | None:
        """Compare the ranges `within`, repair differences, and add them to the total.

        Returns:
            The result; None: an execve interrupted the comparison.
        """
        try:
            outcome = self._comparer.compare(within, patience_ns)
        finally:
            self._motion.reading_since = 0
        if outcome is None:
            return None
        found = outcome.found
        pages = abs(found.pte_pages)
        if not self._reader.exact:
            pages = self._resolve_unplaced()
        total = self._engine.facts.audit
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
        self._engine.update(time.monotonic_ns(), audit=total)
        vmas = self._wrong_vmas(outcome)
        if vmas is not None:  # the meaning of a repair depends on whether the slot is still mapped
            self._take_over(vmas)
        if len(found.slots):
            self._engine.apply(Repair(time.monotonic_ns(), outcome.real))
        if outcome.upper is not None:
            self._take_over(vmas, outcome.upper)
        if within is None:
            self._rest()
        self._engine.update(time.monotonic_ns(), vm_pte_kib=vm_pte_kib(self._target.pid))
        return outcome

    def _wrong_vmas(self, outcome: Comparison) -> npt.NDArray[np.void] | None:
        """The VMAs of the reading, if those of the shadow differ; counts the difference.

        Attributes that only affect later merges are corrected but not counted.
        """
        if outcome.vmas is None:
            return None
        wrong = len(self._table.wrong_vmas(outcome.vmas))
        if not wrong:
            return outcome.vmas if self._table.merges_wrong(outcome.vmas) else None
        if outcome.vmas_certain:
            total = self._engine.facts.audit
            self._engine.update(
                time.monotonic_ns(), audit=replace(total, vmas_diff=total.vmas_diff + wrong)
            )
        return outcome.vmas

    def _take_over(self, vmas: npt.NDArray[np.void] | None, upper: Pages | None = None) -> None:
        """Replace VMAs and upper levels by a reading during which no mapping changed."""
        brk = 0 if vmas is None else self._target.program_break()
        bases = (upper.pmd_bases, upper.pud_bases) if upper else (None, None)
        self._engine.apply(Mappings(time.monotonic_ns(), *bases, vmas, brk))

    def _resolve_unplaced(self) -> int:
        """The error in the number of PTE pages, if only the number is known."""
        real = self._pages_by_vm_pte(vm_pte_kib(self._target.pid))
        # The process may have used or freed some of the old empty PTE pages.
        unplaced = min(max(real - self._placed(), 0), self._unplaced_at_seed)
        self._engine.update(time.monotonic_ns(), unplaced=unplaced)
        return abs(real - self._placed() - unplaced)
