# SPDX-License-Identifier: GPL-2.0-only
"""Replay of a trace through the same engine that follows live processes."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from shadow.engine import Engine, Tee
from shadow.errors import DamagedTraceError, UsageError
from shadow.events import EventBatch
from shadow.geometry import X86_64, Geometry
from shadow.memory_limit import MAX_MEMORY, NoRoomError, Room
from shadow.policy import Policy
from shadow.precompile import prepare
from shadow.records import Events, Facts, Record
from shadow.snapshot import Snapshot
from shadow.table.counters import Counter
from shadow.trace import TraceReader
from shadow.units import NS

__all__ = ("Replay",)

_MOST_ROWS = 1_000_000
_LONGEST = 1e9
"""Seconds; longer than any trace."""
_FOREVER = (1 << 63) - 1


def _time_of(record: Record) -> int:
    """The time of a record other than events, ns."""
    assert not isinstance(record, Events)
    return record.told_ns or record.start_ns if isinstance(record, Facts) else record.time


def _until(latest: npt.NDArray[np.uint64], time: int) -> int:
    """The number of events before the first one later than `time`.

    Args:
        latest: (n,) the latest time up to each event.
        time: ns.
    """
    return int(np.searchsorted(latest, np.uint64(time), side="right"))


class Replay:
    """The replay of all processes of one trace.

    Args:
        reader: the trace.
        at: moment in seconds after the beginning at which to stop; None: the end.
        interval: seconds between two calls of `row` for a process.
        row: called every `interval` with the number of a process and its snapshot.
        tick: called every `interval` with the number of a process, its engine and the time.
        progress: called from time to time with the number of bytes read.
        tee: called with the number of a process at its beginning; returns the function that
            receives every record the engine of the process applies.
        max_memory: limit on the memory of the shadows, bytes.
    """

    def __init__(
        self,
        reader: TraceReader,
        *,
        at: float | None = None,
        interval: float | None = None,
        row: Callable[[int, Snapshot], object] | None = None,
        tick: Callable[[int, Engine, int], object] | None = None,
        progress: Callable[[int], object] = lambda _: None,
        tee: Callable[[int], Tee | None] = lambda _: None,
        max_memory: int = MAX_MEMORY,
    ) -> None:
        self._reader, self._row, self._tick, self._progress = reader, row, tick, progress
        self._at, self._interval, self._tee = at, interval, tee
        self._step = max(round((interval or 0) * NS), 1)
        self._room = Room(max_memory)
        self._limit = _FOREVER
        self._ticks: dict[int, int] = {}
        """When the next row of each process is due, ns."""
        self._past: set[int] = set()
        """Processes that have reached the limit."""
        self._prepared = {X86_64.entries}
        """Sizes of PTE pages whose functions are compiled; the caller has prepared the first."""
        self.engines: dict[int, Engine] = {}
        self.damage: DamagedTraceError | None = None
        """Why the replay did not reach the end of the trace."""

    def run(self) -> None:
        """Apply all records up to the end, the limit or the damage."""
        try:
            for entry in self._reader:
                self._take(entry.process, entry.record)
                self._progress(self._reader.position)
        except DamagedTraceError as error:
            self.damage = error
        except NoRoomError as error:
            self.damage = self._reader.damage(f"{error} (--max-memory allows more)")
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

    def _ready(self, geometry: Geometry) -> None:
        """Load the functions for page tables that the caller did not expect."""
        if geometry.entries not in self._prepared:
            prepare(geometry)
            self._prepared.add(geometry.entries)

    def _begin(self, process: int, record: Record) -> None:
        if not isinstance(record, Facts):
            raise DamagedTraceError(
                f"Process {process} of the trace does not begin with its facts. Everything before "
                "that is intact, and is reported."
            )
        self._ready(record.kernel.geometry)
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
        """Check that the number of rows due up to `time` is acceptable.

        Raises:
            UsageError: there would be too many rows.
        """
        if self._interval is None:
            return
        silent = (time - self._ticks[process]) / NS
        if silent > _MOST_ROWS * self._interval:
            raise UsageError(
                f"The trace has a gap of {silent:,.0f} s, which would give "
                f"{silent / self._interval:,.0f} rows. Use a longer interval with -i."
            )

    def _show(self, process: int, time: int) -> None:
        """Emit the rows of a process that are due up to `time`."""
        if self._interval is None:
            return
        self._bear_with(process, time)
        while (tick := self._ticks[process]) <= time:
            engine = self.engines[process]
            if self._row:
                self._row(process, engine.snapshot(tick, details=False))
            if self._tick:
                self._tick(process, engine, tick)
            self._ticks[process] = tick + self._step

    def end_of(self, process: int) -> int:
        """The end of the process's window or else its latest time, at most the limit, ns."""
        if process in self._past:
            return self._limit
        engine = self.engines[process]
        last = max(engine.table.counter(Counter.NOW), engine.facts.told_ns)
        return min(engine.facts.end_ns or last, self._limit)

    def snapshots(self, *, slots: bool = False, policy: Policy | None = None) -> list[Snapshot]:
        """A snapshot of each process at the current position of the replay.

        Args:
            slots: whether to list the empty slots.
            policy: the policy to show; None: that of the recorded kernel.
        """
        return [
            engine.snapshot(self.end_of(process), slots=slots, policy=policy)
            for process, engine in self.engines.items()
        ]
