# SPDX-License-Identifier: GPL-2.0-only
"""What processes did, kept in memory for questions that come after the window.

Kept is the shadow as a process's seed made it, and all events since. It is told the
records as they are applied, live or out of a trace, so it has the same of both. A
program that was started anew (execve) is seeded anew, and its history begins there.
"""

import numpy as np

from shadow.engine import Engine
from shadow.events import EVENT, EventBatch, Kind, kinds_of
from shadow.records import Events, Facts, Mappings, Record, Repair, Seed
from shadow.whatif import Future

__all__ = ("KEPT_EVENTS", "HistoryStore", "History")

KEPT_EVENTS = 4_000_000
"""160 MB; three times that for a moment when a change is tried on them."""

_UNSEEDED = "since its page tables at the beginning are not known"
_GAP = "since its events have a gap"
_TOO_MANY = "since there were more events than are kept (--keep takes more)"


class History:
    """One process; a `shadow.engine.Tee`."""

    def __init__(self, store: "HistoryStore") -> None:
        self._store = store
        self._begin: Engine | None = None
        self._batches: list[EventBatch] = []
        self._missing: str | None = _UNSEEDED
        self._begun_anew = True
        """Whether the next seed is the beginning of a history: at first, and after execve."""
        self.events = 0
        """How many events are kept."""

    def __call__(self, engine: Engine, record: Record) -> None:
        """Take notice of a record that was applied to `engine`."""
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
        """Give up: there is no room for its events."""
        self._give_up(_TOO_MANY)

    def take(self) -> Future | None:
        """What was kept, which is kept no longer; None if there never was such a process."""
        if self._begin is None:
            return None
        events = np.concatenate([np.empty(0, EVENT), *self._batches])
        future = Future(self._begin.table, events, self._missing)
        self._give_up(self._missing)
        return future


class HistoryStore:
    """Room for the events of several processes.

    Args:
        most: how many events are kept of all together. Where there are more, the
            process that has most of them is given up.
    """

    def __init__(self, most: int = KEPT_EVENTS) -> None:
        self._most, self._events = most, 0
        self._all: list[History] = []

    def process(self) -> History:
        """Room for another process."""
        kept = History(self)
        self._all.append(kept)
        return kept

    def took(self, events: int) -> None:
        """So many more are kept."""
        self._events += events
        while self._events > self._most:
            max(self._all, key=lambda kept: kept.events).too_many()
