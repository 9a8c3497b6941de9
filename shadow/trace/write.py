# SPDX-License-Identifier: GPL-2.0-only
"""Writes a trace while events arrive, in a separate thread behind a bounded queue.

An engine hands each record to the function from `TraceWriter.tee`, which puts it into the
queue and never waits. The thread takes it out, gathers the events of each process into
batches, and writes the batches and all other records to the `TraceFile`.

The thread writes a batch at most a second after its first event, so a killed recorder loses
the last second. When the disk is too slow, the queue is full and the writer drops records.
The trace then has a LOSS event with their number, followed by a new seed from the shadow.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from shadow.engine import Engine, Tee
from shadow.errors import TraceWriteError
from shadow.events import EVENT, EventBatch, Kind
from shadow.plural import are, counted
from shadow.records import Events, Facts, Record, Repair, Seed, Stacks
from shadow.trace.file import TraceFile

__all__ = ("TraceWriter",)

_BATCH = 1 << 16
"""Most events of a batch."""
_SECONDS = 1.0
"""The longest time that an event waits for its batch."""
_QUEUE_BYTES = 256 << 20
_FIXED_BYTES = 4096
"""Assumed size of a record without its arrays."""
_FRAME_BYTES = 256


def _size(record: Record) -> int:
    size = _FIXED_BYTES
    if isinstance(record, Events):
        size += record.batch.nbytes
    elif isinstance(record, Seed | Repair):
        size += record.pages.present.nbytes
    elif isinstance(record, Stacks):
        size += record.samples.nbytes + _FRAME_BYTES * len(record.frames)
    return size


@dataclass
class _TracedProcess:
    """One process within the trace.

    Attributes:
        number: from 1.
        change: the function that changes records before they are written.
        engine: the engine of the process, once there is one.
        gap: whether the last record was dropped.
        missing: number of events dropped in this gap.
        dropped: number of events dropped in total.
        batches: events that wait until their batch is full; only the thread uses them.
        waiting: the number of waiting events.
        since: when the first waiting event arrived.
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
    """Writes the records of one or several processes, when their engines apply them.

    Args:
        path: the new file.
        force: whether to replace an existing file.
        change: returns, for each process, the function that changes its records before they
            are written.
        queue_bytes: limit on the size of the queue.

    Raises:
        UsageError: the file exists already, or cannot be created.
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
        """Why writing has stopped."""
        self._change = change
        self._limit, self._queued = queue_bytes, 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[_TracedProcess, Record] | None] = queue.SimpleQueue()
        self._processes: list[_TracedProcess] = []
        self._thread = threading.Thread(target=self._run, name="trace", daemon=True)

    @property
    def dropped(self) -> int:
        """Number of events that the trace lacks because writing was too slow."""
        return sum(process.dropped for process in self._processes)

    def publish(self) -> None:
        """Move the file to its final path, which may need rights that the process drops later.

        Raises:
            UsageError: another file has appeared at that path.
            OutputError: the file cannot be moved there.
        """
        self.file.publish()

    def start(self) -> None:
        """Start the thread; records wait until then, because a thread keeps its maker's rights."""
        self.publish()
        self._thread.start()

    def tee(self) -> Tee:
        """The function to which the engine of another process hands its records."""
        process = _TracedProcess(len(self._processes) + 1, self._change())
        self._processes.append(process)
        return partial(self._take, process)

    def _take(self, process: _TracedProcess, engine: Engine, record: Record) -> None:
        """Queue a record, or drop it if the queue is full."""
        process.engine = engine
        if not process.gap and self._queued <= self._limit:
            self._put(process, record)
            return
        process.gap = True
        if isinstance(record, Events):
            process.missing += len(record.batch)
        if self._queued <= self._limit // 2 and self.problem is None:
            self._bridge(process, engine)

    def _bridge(self, process: _TracedProcess, engine: Engine) -> None:
        """After a gap, record its size and continue from the shadow."""
        process.dropped += process.missing
        seed, pid = engine.restated(), engine.facts.process.pid
        loss = np.array([(seed.time, 0, process.missing, pid, pid, Kind.LOSS, 0, 0)], EVENT)
        process.gap, process.missing = False, 0
        for record in (engine.facts, Events(loss), seed, engine.stacks.restated(seed.time)):
            if record is not None:
                self._put(process, record)

    def _put(self, process: _TracedProcess, record: Record) -> None:
        if isinstance(record, Facts) and process.dropped:
            lacking = counted(process.dropped, "event")
            note = f"The trace lacks {lacking}, because the disk was too slow."
            record = replace(record, notes=(*record.notes, note))
        with self._lock:
            self._queued += _size(record)
        self._queue.put((process, record))

    def _run(self) -> None:
        """The body of the thread: write until `close`; after a problem, only empty the queue."""
        more = True
        while more:
            with self._noting_problem():
                more = self._write_next()
        with self._noting_problem():
            self._write_end()

    @contextmanager
    def _noting_problem(self) -> Iterator[None]:
        """Keep the first exception of the thread, of any kind, so that `close` can report it."""
        try:
            yield
        except Exception as error:
            self.problem = self.problem or error

    def _write_next(self) -> bool:
        """Take a record out of the queue and write what is due; False at the end."""
        try:
            item = self._queue.get(timeout=_SECONDS / 4)
        except queue.Empty:
            self._write_old()
            return True
        if item is None:
            return False
        process, record = item
        with self._lock:
            self._queued -= _size(record)
        if self.problem is None:
            self._gather(process, process.change(record))
        self._write_old()
        return True

    def _gather(self, process: _TracedProcess, record: Record) -> None:
        """Add events to the batch of their process; write anything else after that batch."""
        if not isinstance(record, Events) or record.counted:
            self._write_batch(process)
            self._write(process, record)
            return
        if not process.waiting:
            process.since = time.monotonic()
        process.batches.append(record.batch)
        process.waiting += len(record.batch)
        if process.waiting >= _BATCH:
            self._write_batch(process)

    def _write_old(self) -> None:
        """Write the batches that have waited long enough."""
        now = time.monotonic()
        for process in list(self._processes):
            if process.waiting and now - process.since > _SECONDS:
                self._write_batch(process)

    def _write_batch(self, process: _TracedProcess) -> None:
        if process.waiting:
            batches, process.batches, process.waiting = process.batches, [], 0
            self._write(process, Events(np.concatenate(batches)))

    def _write_end(self) -> None:
        for process in self._processes:
            self._write_batch(process)
        if self.problem is None:
            self.file.end(self.dropped)

    def _write(self, process: _TracedProcess, record: Record) -> None:
        if self.problem is None and process.engine:
            self.file.write(process.number, process.engine.facts.process.pid, record)

    def close(self) -> None:
        """Write all waiting records and the trailer.

        Raises:
            TraceWriteError: some records could not be written.
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
                f"{counted(self.file.events, 'event')}, and replay can read that part."
            )

    def discard_unpublished(self) -> None:
        """Delete the file, unless it is at its final path already."""
        self.file.discard_unpublished()

    def summary(self) -> str:
        """A sentence about the written trace."""
        size, events = self.file.size, self.file.events
        sentence = f"{self.file.path}: {counted(events, 'event')}, {size / 1e6:,.1f} MB"
        if events:
            sentence += f", {size / events:.1f} bytes an event"
        if self.dropped:
            sentence += f"; {are(self.dropped, 'event')} missing, because the disk was too slow"
        return sentence
