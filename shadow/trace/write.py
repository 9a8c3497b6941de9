# SPDX-License-Identifier: GPL-2.0-only
"""Writing a trace while events come in: a thread of its own, behind a bounded queue.

Whoever reads the ring only puts references into the queue and never waits. The
thread gathers the events of a process into batches, compresses and writes them;
a batch is written at the latest a second after its first event, so that is what
a killed recorder loses. When the disk is too slow the queue is full, and records
are dropped: that is counted, and stands in the trace as a LOSS event followed by
a new seed, taken from the shadow.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from shadow.engine import Engine, Tee
from shadow.errors import TraceWriteError
from shadow.events import EVENT, EventBatch, Kind
from shadow.plural import are, counted
from shadow.records import Events, Facts, Record, Repair, Seed
from shadow.trace.file import TraceFile

__all__ = ("TraceWriter",)

_BATCH = 1 << 16
"""Events of a batch."""
_SECONDS = 1.0
"""The longest that an event waits to be written."""
_QUEUE_BYTES = 256 << 20
_FIXED_BYTES = 4096
"""What a record is taken to need besides its arrays."""


def _size(record: Record) -> int:
    size = _FIXED_BYTES
    if isinstance(record, Events):
        size += record.batch.nbytes
    elif isinstance(record, Seed | Repair):
        size += record.pages.present.nbytes
    return size


@dataclass
class _TracedProcess:
    """One process within the trace.

    Attributes:
        number: from 1.
        following: its shadow, once there is one.
        gap: whether what came last was dropped.
        missing: events dropped in this gap.
        dropped: events dropped in all.
        batches: events that wait for their batch to be full; the thread's own.
        waiting: how many they are.
        since: when the first of them came.
        change: what is made of records before they are written.
    """

    number: int
    change: Callable[[Record], Record]
    engine: Engine | None = None
    gap: bool = False
    missing: int = 0
    dropped: int = 0
    batches: list[EventBatch] = field(default_factory=list)
    waiting: int = 0
    since: float = 0.0


def _unchanged(record: Record) -> Record:
    return record


def _same() -> Callable[[Record], Record]:
    return _unchanged


class TraceWriter:
    """Writes down what shadows take over, of one process or several.

    Args:
        path: the new file.
        force: whether to replace one that is there.
        change: makes, for each process, what its records go through before they are written.
        queue_bytes: how much may wait to be written.

    Raises:
        UsageError: the file is there already, or cannot be made.
    """

    def __init__(
        self,
        path: Path,
        *,
        force: bool = False,
        change: Callable[[], Callable[[Record], Record]] = _same,
        queue_bytes: int = _QUEUE_BYTES,
    ) -> None:
        self.file = TraceFile(path, force=force)
        self.problem: Exception | None = None
        """Why nothing is written any more."""
        self._change = change
        self._limit, self._queued = queue_bytes, 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[_TracedProcess, Record] | None] = queue.SimpleQueue()
        self._processes: list[_TracedProcess] = []
        self._thread = threading.Thread(target=self._run, name="trace", daemon=True)

    @property
    def dropped(self) -> int:
        """Events that the trace lacks because it could not be written fast enough."""
        return sum(process.dropped for process in self._processes)

    def tee(self) -> Tee:
        """What the shadow of another process is to tell its records to."""
        process = _TracedProcess(len(self._processes) + 1, self._change())
        self._processes.append(process)

        def take(engine: Engine, record: Record) -> None:
            process.engine = engine
            if not process.gap and self._queued <= self._limit:
                self._put(process, record)
                return
            process.gap = True
            if isinstance(record, Events):
                process.missing += len(record.batch)
            if self._queued <= self._limit // 2 and self.problem is None:
                self._bridge(process, engine)

        return take

    def _put(self, process: _TracedProcess, record: Record) -> None:
        if isinstance(record, Facts) and process.dropped:
            lacking = counted(process.dropped, "event")
            note = f"The trace lacks {lacking}: the disk was too slow for them."
            record = replace(record, notes=(*record.notes, note))
        with self._lock:
            self._queued += _size(record)
        self._queue.put((process, record))

    def _bridge(self, process: _TracedProcess, engine: Engine) -> None:
        """After a gap: say how large it was, and start again from the shadow."""
        process.dropped += process.missing
        seed, pid = engine.restated(), engine.facts.process.pid
        loss = np.array([(seed.time, 0, process.missing, pid, pid, Kind.LOSS, 0, 0)], EVENT)
        process.gap, process.missing = False, 0
        for record in (engine.facts, Events(loss), seed):
            self._put(process, record)

    def publish(self) -> None:
        """Let the trace take its place, which may need rights that are dropped later.

        Raises:
            UsageError: something has come there meanwhile.
            OutputError: it cannot be moved there.
        """
        self.file.publish()

    def start(self) -> None:
        """Begin to write; records wait until then: a thread has the rights of its maker."""
        self.publish()
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=_SECONDS / 4)
            except queue.Empty:
                self._attempt(self._flush_old)
                continue
            if item is None:
                break
            process, record = item
            with self._lock:
                self._queued -= _size(record)
            self._attempt(self._gather, process, record)
            self._attempt(self._flush_old)
        self._attempt(self._finish)

    def _attempt(self, write: Callable[..., None], *arguments: Any) -> None:
        if self.problem is not None:
            return
        try:
            write(*arguments)
        except Exception as error:  # whatever it is, the user is told when the trace is closed
            self.problem = error

    def _gather(self, process: _TracedProcess, record: Record) -> None:
        record = process.change(record)
        if not isinstance(record, Events) or record.counted:
            self._flush(process)
            self._write(process, record)
            return
        if not process.waiting:
            process.since = time.monotonic()
        process.batches.append(record.batch)
        process.waiting += len(record.batch)
        if process.waiting >= _BATCH:
            self._flush(process)

    def _flush(self, process: _TracedProcess) -> None:
        if process.waiting:
            batches, process.batches, process.waiting = process.batches, [], 0
            self._write(process, Events(np.concatenate(batches)))

    def _flush_old(self) -> None:
        now = time.monotonic()
        for process in list(self._processes):
            if process.waiting and now - process.since > _SECONDS:
                self._flush(process)

    def _write(self, process: _TracedProcess, record: Record) -> None:
        assert process.engine
        self.file.write(process.number, process.engine.facts.process.pid, record)

    def _finish(self) -> None:
        for process in self._processes:
            self._flush(process)
        self.file.end(self.dropped)

    def discard_unpublished(self) -> None:
        """Leave no file behind, unless it is at its place already."""
        self.file.discard_unpublished()

    def summary(self) -> str:
        """What was written, in a sentence."""
        size, events = self.file.size, self.file.events
        each = f", {size / events:.1f} bytes an event" if events else ""
        lack = f"; {are(self.dropped, 'event')} missing, the disk was too slow" * bool(self.dropped)
        return f"{self.file.path}: {counted(events, 'event')}, {size / 1e6:,.1f} MB{each}{lack}"

    def close(self) -> None:
        """Write what waits, and the trailer.

        Raises:
            TraceWriteError: not everything could be written.
        """
        if self._thread.ident is None:
            self.start()
        for process in self._processes:
            if process.gap and process.engine and self.problem is None:
                self._bridge(process, process.engine)
        self._queue.put(None)
        self._thread.join()
        self.file.close()
        if self.problem is not None:
            why = getattr(self.problem, "strerror", None) or repr(self.problem)
            raise TraceWriteError(
                f"{self.file.path} could not be written to its end ({why}): it ends after "
                f"{counted(self.file.events, 'event')}, and what is in it can be replayed."
            )
