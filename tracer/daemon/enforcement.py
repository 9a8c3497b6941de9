# SPDX-License-Identifier: GPL-2.0-only
"""Enforce --max-memory and --max-cpu."""

from collections.abc import Mapping

from shadow.plural import are
from tracer.daemon.limits import CpuBudget, Limits, memory_bytes
from tracer.daemon.process_state import ProcessState
from tracer.daemon.sampling import Sampling

__all__ = ("Enforcement",)


class Enforcement:
    """Decides which processes to drop for memory, and which to sample for CPU.

    Args:
        limits: the limits.
        sampling: which processes are sampled.
    """

    def __init__(self, limits: Limits, sampling: Sampling) -> None:
        self._limits, self._sampling = limits, sampling
        self._budget = CpuBudget(limits.cpu)

    def to_drop(self, followed: Mapping[int, ProcessState]) -> ProcessState | None:
        """If too much memory is in use, the process with the fewest empty PTE pages."""
        if memory_bytes() <= self._limits.memory_bytes:
            return None
        return min(followed.values(), key=lambda each: each.session.empty, default=None)

    def turns(self, followed: Mapping[int, ProcessState], now: float) -> list[int]:
        """Sample more or less at the end of a window of the CPU budget.

        Args:
            followed: the processes, by pid.
            now: monotonic seconds.

        Returns:
            The processes to pause or to resume now.
        """
        over = self._budget.over()
        if over is None:
            return []
        if over:
            rates = {pid: each.events_per_second for pid, each in followed.items()}
            self._sampling.save(rates, now)
        elif self._budget.use < self._limits.cpu / 2:
            self._sampling.spend()
        return self._sampling.due(now)

    def notes(self) -> list[str]:
        """Sentences on the effects of the limits."""
        if not self._sampling.count:
            return []
        return [
            f"{are(self._sampling.count, 'process')} sampled, that is followed part of the time, "
            f"to stay within --max-cpu, {self._limits.cpu:.0%} of a CPU."
        ]
