"""Probes that keep what they read, for questions that come after the window."""

import copy

import numpy as np

from shadow.events import EVENT, EventBatch
from shadow.table import Table
from shadow.whatif import Future
from tracer.probes import DEFAULT_RING, Probes

__all__ = ("KEPT_EVENTS", "KeepingProbes")

KEPT_EVENTS = 4_000_000
"""160 MB; three times that for a moment when a change is tried on them."""


class KeepingProbes(Probes):
    """Probes of one process that keep its events in memory, up to a number.

    Args:
        levels: page-table levels of the running kernel.
        ring_bytes: size of the ring, a power of two.
        most: how many events are kept.

    Raises:
        NotPermittedError: as `Probes`.
        UnsupportedHostError: as `Probes`.
    """

    def __init__(
        self, *, levels: int, ring_bytes: int = DEFAULT_RING, most: int = KEPT_EVENTS
    ) -> None:
        super().__init__(levels=levels, ring_bytes=ring_bytes)
        self._most = most
        self._batches: list[EventBatch] = []
        self._seed: Table | None = None
        self.kept = 0
        """How many events are kept."""
        self.complete = True
        """Whether none had to be left out."""

    def keep_from(self, seed: Table) -> None:
        """Begin: `seed` has seen all events read so far; it is copied."""
        self._seed, self._batches, self.kept = copy.deepcopy(seed), [], 0

    def read(self, pid: int) -> EventBatch:
        """As `Probes.read`; what is returned is kept."""
        events = super().read(pid)
        if self._seed is not None and len(events):
            room = self._most - self.kept
            self.complete = self.complete and len(events) <= room
            if self.complete:
                self._batches.append(events)
                self.kept += len(events)
        return events

    def future(self) -> Future | None:
        """What was kept, or None if it never began."""
        if self._seed is None:
            return None
        events = np.concatenate([np.empty(0, EVENT), *self._batches])
        return Future(self._seed, events, self.complete)
