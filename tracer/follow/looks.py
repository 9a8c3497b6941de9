# SPDX-License-Identifier: GPL-2.0-only
"""Compare the kernel's counters of a process with its shadow: see `tracer.follow.drift`."""

import time
from collections.abc import Callable

from shadow.engine import Engine
from shadow.table.counters import Counter
from tracer.follow.drift import Apart, Drift, ReadingBudget
from tracer.process.target import Target
from tracer.procfs import MemoryStatus, memory_status

__all__ = ("Looks",)

_AGAIN_NS = 250_000_000
"""Time from a look that found a difference to the next one."""
_ABOVE = (Counter.PMD_PAGES, Counter.PUD_PAGES, Counter.DEPOSITS)


class Looks:
    """Looks at one process. All times are CLOCK_MONOTONIC, ns.

    Args:
        target: the process.
        engine: its shadow.
        every_ns: time between two looks.
        budget: the CPU budget of drift readings.

    Attributes:
        due_at: time of the next look.
    """

    def __init__(
        self, target: Target, engine: Engine, every_ns: int, budget: ReadingBudget
    ) -> None:
        self._pid, self._engine = target.pid, engine
        self._every_ns, self._budget = every_ns, budget
        self._drift = Drift()
        self.due_at = 0

    @property
    def suspicious(self) -> bool:
        """Whether another look must follow, even without an event."""
        return self._drift.suspected

    def look(self, now: int, take: Callable[[], int]) -> bool:
        """Look once.

        Args:
            now: the time.
            take: takes new events.

        Returns:
            Whether everything must be read now.

        Raises:
            OSError: the process has ended.
        """
        table = self._engine.table
        before = self._predicted()
        status = memory_status(self._pid)
        take()
        if self.due_at > now:
            return False  # the process called execve, and was read again
        self._engine.update(time.monotonic_ns(), vm_pte_kib=status.vm_pte_kib)
        self._drift.look(
            self._apart(status, before),
            events=self._engine.events,
            newest=table.counter(Counter.NOW),
            since=now,
            refs=table.counter(Counter.REFS),
        )
        self.due_at = now + (_AGAIN_NS if self._drift.suspected else self._every_ns)
        return self._drift.wanted and self._budget.may_begin(now)

    def have_read(self, begin: int, *, in_vain: bool) -> None:
        """Note a reading that a look requested, and its start; `in_vain`: nothing was wrong."""
        self._budget.took(time.monotonic_ns() - begin)
        self._drift.learn(in_vain=in_vain)

    def rest(self) -> None:
        """Note that everything was read, for any reason.

        Raises:
            OSError: the process has ended.
        """
        self.due_at = time.monotonic_ns() + self._every_ns
        self._drift.rest(self._apart(memory_status(self._pid), self._predicted()))

    def _predicted(self) -> int:
        """Number of page-table pages of the shadow, counted as VmPTE counts them."""
        table = self._engine.table
        placed = table.counter(Counter.TABLES + table.running)
        return placed + self._engine.facts.unplaced + sum(map(table.counter, _ABOVE))

    def _apart(self, status: MemoryStatus, before: int) -> Apart:
        """The differences; `before` is the prediction before the status was read."""
        table, now = self._engine.table, self._predicted()
        stated = status.vm_pte_kib // table.geometry.page_kib
        low, high = min(now, before), max(now, before)
        huge = table.counter(Counter.HUGE) * table.geometry.entries
        return Apart(
            stated - min(max(stated, low), high),
            status.mapped - table.counter(Counter.REFS) - huge,
        )
