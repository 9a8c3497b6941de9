# SPDX-License-Identifier: GPL-2.0-only
"""A trace through the engine that live following runs, process by process."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from shadow.engine import Engine, Tee
from shadow.errors import DamagedTraceError, UsageError
from shadow.events import EventBatch
from shadow.memory_limit import MAX_MEMORY, NoRoomError, Room
from shadow.policy import Policy
from shadow.records import Events, Facts, Record
from shadow.snapshot import Snapshot
from shadow.table import Counter
from shadow.trace import TraceReader
from shadow.units import NS

__all__ = ("Replay",)

_MOST_ROWS = 1_000_000
_LONGEST = 1e9
"""Seconds; more than any trace."""
_FOREVER = (1 << 63) - 1


def _time_of(record: Record) -> int:
    """When a record other than events came about, ns."""
    assert not isinstance(record, Events)
    return record.told_ns or record.start_ns if isinstance(record, Facts) else record.time


def _until(latest: npt.NDArray[np.uint64], time: int) -> int:
    """How many events come before the first one later than `time`.

    Args:
        latest: (n,) the latest time up to each event.
        time: ns.
    """
    return int(np.searchsorted(latest, np.uint64(time), side="right"))


class Replay:
    """All processes of one trace.

    Args:
        reader: the trace.
        at: seconds after its beginning at which to stop; None: its end.
        interval: seconds between two calls of `row` for a process.
        row: is given the number of a process and a snapshot of it, each `interval`.
        progress: is given the bytes read so far, now and then.
        tee: is given the number of a process when it begins, and makes what is to be
            told of all that its shadow takes over.
        max_memory: what the shadows may take, bytes.
    """

    def __init__(
        self,
        reader: TraceReader,
        *,
        at: float | None = None,
        interval: float | None = None,
        row: Callable[[int, Snapshot], object] = lambda _, __: None,
        progress: Callable[[int], object] = lambda _: None,
        tee: Callable[[int], Tee | None] = lambda _: None,
        max_memory: int = MAX_MEMORY,
    ) -> None:
        self._reader, self._row, self._progress = reader, row, progress
        self._at, self._interval, self._tee = at, interval, tee
        self._step = max(round((interval or 0) * NS), 1)
        self._room = Room(max_memory)
        self._limit = _FOREVER
        self._ticks: dict[int, int] = {}
        """When the next row of each process is due, ns."""
        self._past: set[int] = set()
        """Processes that have come to the limit."""
        self.engines: dict[int, Engine] = {}
        self.damage: DamagedTraceError | None = None
        """Why it did not come to the end of the trace."""

    def run(self) -> None:
        """Apply everything, up to the end, the limit or the damage."""
        try:
            for entry in self._reader:
                self._take(entry.process, entry.record)
                self._progress(self._reader.position)
        except DamagedTraceError as error:
            self.damage = error
        except NoRoomError as error:
            self.damage = self._reader.damage(f"{error} (--max-memory takes more)")
        for process in self.engines:
            self._show(process, self.end_of(process))

    def _take(self, process: int, record: Record) -> None:
        if process in self._past:
            return
        engine = self.engines.get(process)
        if engine is None:
            self._begin(process, record)
        elif isinstance(record, Events) and not record.counted:
            self._events(process, engine, record.batch)
        else:
            time = 0 if isinstance(record, Events) else _time_of(record)
            if time > self._limit:
                self._past.add(process)
                return
            self._show(process, time - 1)
            engine.apply(record)

    def _begin(self, process: int, record: Record) -> None:
        if not isinstance(record, Facts):
            raise DamagedTraceError(f"Process {process} of the trace has no beginning.")
        if not self.engines and self._at is not None:
            self._limit = record.start_ns + round(min(self._at, _LONGEST) * NS)
        if record.start_ns > self._limit:
            self._past.add(process)
            return
        self.engines[process] = Engine(record, self._tee(process), self._room)
        if self._interval is not None:
            self._ticks[process] = record.start_ns + self._step

    def _events(self, process: int, engine: Engine, events: EventBatch) -> None:
        latest = np.maximum.accumulate(events["time"])
        last = int(latest[-1]) if len(latest) else 0
        done, end = 0, len(events)
        if last > self._limit:
            self._past.add(process)
            end = _until(latest, self._limit)
        self._bear_with(process, min(last, self._limit))
        while last > (tick := self._ticks.get(process, _FOREVER)) <= self._limit:
            before = min(_until(latest, tick), end)
            engine.apply(Events(events[done:before]))
            done = before
            self._show(process, tick)
        engine.apply(Events(events[done:end]))

    def _bear_with(self, process: int, time: int) -> None:
        """Whether the rows that are due up to `time` are not too many.

        Raises:
            UsageError: they are.
        """
        if self._interval is None:
            return
        silent = (time - self._ticks[process]) / NS
        if silent > _MOST_ROWS * self._interval:
            raise UsageError(
                f"The trace is silent for {silent:,.0f} s at a time: that would be "
                f"{silent / self._interval:,.0f} rows. Give -i a longer interval."
            )

    def _show(self, process: int, time: int) -> None:
        """The rows of a process that are due up to `time`."""
        if self._interval is None:
            return
        self._bear_with(process, time)
        while (tick := self._ticks[process]) <= time:
            self._row(process, self.engines[process].snapshot(tick, details=False))
            self._ticks[process] = tick + self._step

    def end_of(self, process: int) -> int:
        """The end of its window, or the last that is known of it, or the limit."""
        if process in self._past:
            return self._limit
        engine = self.engines[process]
        last = max(engine.table.counter(Counter.NOW), engine.facts.told_ns)
        return min(engine.facts.end_ns or last, self._limit)

    def snapshots(self, *, slots: bool = False, policy: Policy | None = None) -> list[Snapshot]:
        """What is known of each process where the replay has come to.

        Args:
            slots: whether to list the empty slots.
            policy: whose PTE pages to show instead of those of the kernel it ran on.
        """
        return [
            engine.snapshot(self.end_of(process), slots=slots, policy=policy)
            for process, engine in self.engines.items()
        ]
