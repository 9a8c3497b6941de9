# SPDX-License-Identifier: GPL-2.0-only
"""The writer's thread never blocks its caller, and reports what it drops."""

import resource
import time
from pathlib import Path

import numpy as np
import pytest

from shadow.engine import Engine
from shadow.errors import TraceWriteError
from shadow.events import Kind
from shadow.records import Events, Facts, Record
from shadow.replay import Question, replay_one
from shadow.trace import TraceWriter
from tests.shadow.build import BASE, SLOT, EventScript
from tests.shadow.trace.traces import END_NS, followed, read_all, records


def _apply(writer: TraceWriter, history: list[Record]) -> Engine:
    first, *others = history
    assert isinstance(first, Facts)
    engine = Engine(first, writer.tee())
    for record in others:
        engine.apply(record)
    return engine


def test_what_shadows_take_over_is_written(tmp_path: Path) -> None:
    path = tmp_path / "t.arrows"
    writer = TraceWriter(path)
    live = _apply(writer, records())
    writer.start()
    writer.close()
    assert writer.dropped == 0
    (found,) = replay_one(str(path), Question(slots=True)).followed
    assert found.snapshot == live.snapshot(END_NS, slots=True)
    assert found.snapshot == followed().snapshot(END_NS, slots=True)


def test_small_batches_become_large_ones(tmp_path: Path) -> None:
    path = tmp_path / "t.arrows"
    writer = TraceWriter(path)
    writer.start()
    events = EventScript().map(BASE, SLOT).touch(BASE, SLOT).batch()
    _apply(writer, [records()[0], *(Events(one) for one in np.split(events, len(events)))])
    writer.close()
    _, (_, written) = read_all(path)
    assert isinstance(written, Events)
    assert written.batch.tobytes() == events.tobytes()


def test_events_are_written_within_a_second_or_so(tmp_path: Path) -> None:
    path = tmp_path / "t.arrows"
    writer = TraceWriter(path)
    writer.start()
    _apply(writer, [records()[0], Events(EventScript().touch(BASE, SLOT).batch())])
    deadline = time.monotonic() + 10
    while writer.file.events < 512 and time.monotonic() < deadline:
        time.sleep(0.01)
    cut = replay_one(str(path), Question())  # the writer has not finished
    writer.close()
    assert cut.followed[0].snapshot.window.events == {"fault": 512}
    assert cut.problem is not None
    assert "no trailer" in cut.problem


def test_a_writer_that_is_too_slow_drops_counts_and_goes_on_from_the_shadow(tmp_path: Path) -> None:
    path = tmp_path / "t.arrows"
    writer = TraceWriter(path, queue_bytes=20_000)
    history = EventScript().map(BASE, 8 * SLOT).touch(BASE, 8 * SLOT)
    for half in range(6):
        history.dontneed(BASE + half * SLOT // 2, SLOT // 2)
    batch = history.batch()
    batch["tgid"] = 7
    pieces = np.array_split(batch, 40)
    # Records stay in the queue until the thread runs.
    live = _apply(writer, [records()[0], *map(Events, pieces[:30])])
    writer.start()
    deadline = time.monotonic() + 10
    while writer.file.events < 100 and time.monotonic() < deadline:
        time.sleep(0.01)
    for piece in pieces[30:]:
        live.apply(Events(piece))
    live.update(int(batch["time"][-1]), end_ns=int(batch["time"][-1]))
    writer.close()
    outcome = replay_one(str(path), Question(slots=True))
    (found,) = outcome.followed
    expected = live.snapshot(END_NS, slots=True)
    assert outcome.problem is None
    assert writer.dropped > 0
    # The trace has the number of missing events at their position, and a note.
    assert found.snapshot.window.lost == writer.dropped
    assert found.snapshot.notes == [
        f"The trace lacks {writer.dropped:,} events, because the disk was too slow."
    ]
    counted = sum(count for kind, count in found.snapshot.window.events.items() if kind != "loss")
    assert counted + writer.dropped == len(batch)
    # After the new seed, the page tables are correct again.
    assert found.snapshot.empty_slots == expected.empty_slots
    assert found.snapshot.now == expected.now
    loss = [
        record
        for _, record in read_all(path)
        if isinstance(record, Events) and (record.batch["kind"] == Kind.LOSS).any()
    ]
    assert loss


def test_a_full_disk_leaves_whole_batches_and_is_told(tmp_path: Path) -> None:
    """A limit on the file size stands for a full disk."""
    path = tmp_path / "t.arrows"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        writer = TraceWriter(path)
        writer.start()
        live = _apply(writer, records())
        random = np.random.default_rng(5)
        for _ in range(50):
            events = EventScript().touch(BASE, SLOT).batch()
            events["time"] = 6_000_000 + random.integers(0, 1 << 40, len(events)).cumsum()
            live.apply(Events(events))
            live.update(END_NS, vm_pte_kib=int(random.integers(1 << 30)))
        with pytest.raises(TraceWriteError, match=r"\(File too large\): it ends after [0-9,]+ ev"):
            writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    outcome = replay_one(str(path), Question())
    assert outcome.status == 5
    assert outcome.problem is not None
    assert "no trailer" in outcome.problem  # and not: cut in the middle of a batch
    assert sum(outcome.followed[0].snapshot.window.events.values()) == writer.file.events
