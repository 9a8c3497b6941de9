# SPDX-License-Identifier: GPL-2.0-only
"""Check that events arrive: the daemon makes test events, which must come back."""

import mmap
import os
import time

import numpy as np

from shadow.events import Kind
from tracer.probes.stream import Probes

__all__ = ("Heartbeat",)

_EVERY = 5.0
_PATIENCE = 2.0


class Heartbeat:
    """Calls madvise at intervals and waits for the event.

    Args:
        probes: attached probes.
    """

    def __init__(self, probes: Probes) -> None:
        self._probes, self._pid = probes, os.getpid()
        self._memory = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._next, self._sent = 0.0, 0.0
        self.alive = False
        """Whether the last test event came back."""
        self.missed = False
        """Whether the last test event did not come back in time."""

    def beat(self, now: float) -> None:
        """Make a test event, or check for the last one; `now` in monotonic seconds."""
        if self._sent:
            kinds = self._probes.read(self._pid)["kind"]
            if np.isin(Kind.DONTNEED, kinds):
                self._end(now, alive=True)
            elif now - self._sent > _PATIENCE:
                self._end(now, alive=False)
        elif now >= self._next:
            self._probes.add(self._pid)
            self._memory.madvise(mmap.MADV_DONTNEED)
            self._sent = time.monotonic()

    def _end(self, now: float, *, alive: bool) -> None:
        self._probes.remove(self._pid)
        self.alive, self.missed = alive, not alive
        self._sent, self._next = 0.0, now + _EVERY
