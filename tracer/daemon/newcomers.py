# SPDX-License-Identifier: GPL-2.0-only
"""Selected processes that wait to be followed."""

import os
from collections import deque
from collections.abc import Container, Mapping

from tracer.daemon.discovery import Seen, Selection
from tracer.daemon.limits import Limits, memory_bytes, shadow_cost
from tracer.daemon.skipped import Refusals

__all__ = ("Newcomers",)

_SELF = os.getpid()
"""ptescope itself is not followed: each of its events would cause another."""


class Newcomers:
    """The queue of processes to be followed.

    Args:
        choice: the selection of processes.
        limits: the memory that following may use.
        refusals: the processes not to try now.
    """

    def __init__(self, selection: Selection, limits: Limits, refusals: Refusals) -> None:
        self._selection, self._limits, self._refusals = selection, limits, refusals
        self._waiting: deque[Seen] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def next(self) -> Seen:
        """Remove and return the next process."""
        return self._waiting.popleft()

    def notice(self, seen: Mapping[int, Seen], followed: Container[int], now: float) -> None:
        """Queue new selected processes for which there is memory.

        Args:
            seen: all processes, by pid.
            followed: pids of the followed processes.
            now: monotonic seconds.
        """
        alive = (p for p in self._waiting if p.pid in seen and seen[p.pid].identity == p.identity)
        self._waiting = deque(alive)
        known = {process.identity for process in self._waiting}
        known |= self._refusals.now(now)
        self._refusals.keep({process.identity for process in seen.values()})
        room = self._limits.memory_bytes - memory_bytes()
        room -= sum(shadow_cost(process.vm_pte_kib) for process in self._waiting)
        for pid, process in seen.items():
            if pid == _SELF or pid in followed or process.identity in known:
                continue
            if self._selection.takes(process):
                cost = shadow_cost(process.vm_pte_kib)
                self._refusals.fits(process.identity, fits=cost <= room)
                if cost <= room:  # else the process is only counted; the notes say so
                    self._waiting.append(process)
                    room -= cost
