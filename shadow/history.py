# SPDX-License-Identifier: GPL-2.0-only
"""The history of processes, kept in memory for questions that come after the window.

The history of a process is its shadow right after the seed, and all events since.
`History` receives each record when the engine applies it, live or from a trace, so both
give the same history. An execve starts a new history with a new seed.
"""

import numpy as np

from shadow.engine import Engine
from shadow.events import EVENT, EventBatch, Kind, kinds_of
from shadow.records import Events, Facts, Mappings, Record, Repair, Seed
from shadow.whatif import Future

__all__ = ("KEPT_EVENTS", "HistoryStore", "History")

KEPT_EVENTS = 4_000_000
"""160 MB; a simulated change briefly needs three times as much."""

_UNSEEDED = "because its page tables at the beginning are unknown"
_GAP = "because its events have a gap"
_TOO_MANY = "because there were more events than ptescope keeps (--keep allows more)"


class History:
    """The history of one process; a `shadow.engine.Tee`."""

    def __init__(self, store: "HistoryStore") -> None:
        self._store = store
        self._begin: Engine | None = None
        self._batches: list[EventBatch] = []
        self._missing: str | None = _UNSEEDED
        self._begun_anew = True
        """Whether the next seed begins a history: at first, and after execve."""
        self.events = 0
        """How many events this history holds."""

    def __call__(self, engine: Engine, record: Record) -> None:
        """Add a record that `engine` has applied."""
        match record:
            case Facts():
                if self._begin is None:
                    self._begin = Engine(record)
            case Seed():
                if self._begun_anew:
                    self._restart(engine, record)
                else:
                    self._give_up(_GAP)
            case Mappings() | Repair():
                if self._begin and not self.events:
                    self._begin.apply(record)
            case Events() if not record.counted:
                self._add(record.batch)

    def _restart(self, engine: Engine, seed: Seed) -> None:
        self._give_up(None)
        self._begun_anew = False
        self._begin = Engine(engine.facts)
        self._begin.apply(seed)

    def _add(self, batch: EventBatch) -> None:
        if Kind.EXEC in kinds_of(batch):
            self._begun_anew = True
        if self._missing in (None, _UNSEEDED):
            self._batches.append(batch)
            self.events += len(batch)
            self._store.took(len(batch))

    def _give_up(self, why: str | None) -> None:
        self._store.took(-self.events)
        self._batches, self.events, self._missing = [], 0, why

    def too_many(self) -> None:
        """Drop the history, because there is no room for its events."""
        self._give_up(_TOO_MANY)

    def take(self) -> Future | None:
        """Hand over the history and forget it; None if the process was never seeded."""
        if self._begin is None:
            return None
        events = np.concatenate([np.empty(0, EVENT), *self._batches])
        future = Future(self._begin.table, events, self._missing)
        self._give_up(self._missing)
        return future


class HistoryStore:
    """The histories of several processes, within one limit.

    Args:
        most: the limit on the events of all processes together. Beyond it, the store
            drops the history with the most events.
    """

    def __init__(self, most: int = KEPT_EVENTS) -> None:
        self._most, self._events = most, 0
        self._all: list[History] = []

    def process(self) -> History:
        """Begin the history of another process."""
        kept = History(self)
        self._all.append(kept)
        return kept

    def took(self, events: int) -> None:
        """Count `events` more events, and drop the largest histories while there are too many."""
        self._events += events
        while self._events > self._most:
            max(self._all, key=lambda kept: kept.events).too_many()
