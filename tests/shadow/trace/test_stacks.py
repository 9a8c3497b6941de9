# SPDX-License-Identifier: GPL-2.0-only
"""Stacks in traces: their round trip, impossible ones, gaps and redaction."""

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shadow.engine import Engine
from shadow.escape import valid
from shadow.records import Events, Facts, Stacks
from shadow.replay import Question, replay_one
from shadow.stacks import MOST_DEPTH, MOST_FRAMES
from shadow.trace import Redactor, TraceWriter
from shadow.trace.layout import Row
from shadow.trace.stacks import StackText, encode_stacks
from tests.shadow.build import BASE, SLOT, EventScript
from tests.shadow.stacks import FRAMES, HOSTILE, STACKS, TOTALS, stacks
from tests.shadow.trace.crafted import Crafted, plain_facts
from tests.shadow.trace.traces import END_NS, facts, read_all, records

_ODD: list[Any] = [
    None,
    True,
    -1,
    1.5,
    1 << 62,
    1 << 70,
    "",
    "x" * 600,
    [],
    [1],
    [[]],
    {},
    {"a": 1},
]


def _written(path: Path, *parts: Stacks) -> Path:
    writer = TraceWriter(path)
    writer.start()
    engine = Engine(facts(), writer.tee())
    for record in (*records()[1:-1], *parts, records()[-1]):
        engine.apply(record)
    writer.close()
    return path


def test_a_trace_gives_the_stacks_that_were_written(tmp_path: Path) -> None:
    given = stacks([(2000, 1, 0), (3000, 2, 2)])
    later = stacks([(4000, 1, 1)], first=False)
    path = _written(tmp_path / "t.arrows", given, later)
    found = [record for _, record in read_all(path) if isinstance(record, Stacks)][-2:]
    for one, other in zip(found, (given, later), strict=True):
        assert one.samples.tobytes() == other.samples.tobytes()
        # JSON has no lone surrogates.
        assert one.frames == valid(other.frames)
        assert (one.stacks, one.totals, one.time) == (other.stacks, other.totals, other.time)
        assert one.first_frame == other.first_frame
        assert one.first_stack == other.first_stack


def _plain() -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(encode_stacks(stacks([])))
    return plain


def _status(text: bytes, tmp_path: Path, samples: list[tuple[int, int, int, int]]) -> int:
    crafted = Crafted().facts(plain_facts())
    crafted.rows(Row.STACKS, [(0, 0, 0, 0)], [text], "stacks", more=1)
    crafted.rows(Row.STACK_SAMPLE, samples, None, "stacks")
    path = tmp_path / "t.arrows"
    path.write_bytes(crafted.whole())
    begin = time.monotonic()
    outcome = replay_one(str(path), Question())
    assert time.monotonic() - begin < 5
    return outcome.status


def test_what_a_recorder_writes_is_accepted(tmp_path: Path) -> None:
    samples = [(5, 0, 0, 0), (6, 0, 0, 2), (7, 0, 0, (1 << 32) - 1)]
    assert _status(json.dumps(_plain()).encode(), tmp_path, samples) == 0


@pytest.mark.parametrize("field", [*asdict(StackText(0, 0, [], [], TOTALS))])
def test_every_field_is_what_it_should_be_or_damage(field: str, tmp_path: Path) -> None:
    statuses = {
        _status(json.dumps(_plain() | {field: value}).encode(), tmp_path, []) for value in _ODD
    }
    assert 5 in statuses
    assert statuses <= {0, 5}


def _changed(path: str, value: Any) -> dict[str, Any]:
    plain = _plain()
    where: Any = plain
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in parents:
        where = where[key]
    where[last] = value
    return plain


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("frames.0.function", "x" * 513),
        ("frames.0.module", 5),
        ("frames.0.offset", -1),
        ("frames.0.offset", 1 << 64),
        ("frames.0.language", "cobol"),
        ("stacks.0.frames", [len(FRAMES)]),
        ("stacks.0.frames", [-1]),
        ("stacks.0.frames", [0] * (MOST_DEPTH + 1)),
        ("first_frame", MOST_FRAMES),
        ("first_stack", -1),
        ("totals.taken", -1),
        ("totals.unwind_ns", 1 << 62),
        ("totals.problem", "x" * 600),
    ],
)
def test_impossible_stacks_are_damage(path: str, value: Any, tmp_path: Path) -> None:
    assert _status(json.dumps(_changed(path, value)).encode(), tmp_path, []) == 5


@pytest.mark.parametrize(
    "sample", [(0, 0, 0, len(STACKS)), (1 << 62, 0, 0, 0), ((1 << 64) - 1, 0, 0, 0)]
)
def test_impossible_samples_are_damage(sample: tuple[int, int, int, int], tmp_path: Path) -> None:
    assert _status(json.dumps(_plain()).encode(), tmp_path, [sample]) == 5


@pytest.mark.parametrize("text", [b"[" * 100_000, b"{}", b"", b"null", b"\xff"])
def test_another_shape_is_damage(text: bytes, tmp_path: Path) -> None:
    assert _status(text, tmp_path, []) == 5


def test_after_a_gap_a_trace_has_all_stacks_again(tmp_path: Path) -> None:
    path = tmp_path / "t.arrows"
    writer = TraceWriter(path, queue_bytes=20_000)
    engine = Engine(facts(), writer.tee())
    engine.apply(stacks([(1000, 1, 0)]))
    batch = EventScript().map(BASE, 8 * SLOT).touch(BASE, 8 * SLOT).batch()
    for piece in np.array_split(batch, 40)[:20]:
        engine.apply(Events(piece))
    engine.apply(stacks([(2000, 1, 1)], first=False))  # dropped
    writer.start()
    deadline = time.monotonic() + 10
    while writer.file.events < 100 and time.monotonic() < deadline:
        time.sleep(0.01)
    engine.apply(Events(batch[-1:]))
    writer.close()
    assert writer.dropped
    whole = [record for _, record in read_all(path) if isinstance(record, Stacks)]
    assert [record.first_stack for record in whole] == [0, 0]
    assert whole[-1].samples["time"].tolist() == [1000, 2000]
    assert len(whole[-1].stacks) == len(STACKS)


def test_a_torn_trace_gives_the_stacks_before_the_damage(tmp_path: Path) -> None:
    path = _written(tmp_path / "t.arrows", stacks([(2000, 1, 0)]))
    data = path.read_bytes()
    seen = set()
    for length in range(len(data) // 2, len(data), 97):
        path.write_bytes(data[:length])
        outcome = replay_one(str(path), Question())
        assert outcome.status == 5
        seen |= {each.snapshot.stacks is not None for each in outcome.followed}
    assert seen == {True, False}


def test_redacted_stacks_keep_their_shape_but_no_name() -> None:
    redact = Redactor()
    given = stacks([(2000, 1, 0)])
    changed = redact(given)
    assert isinstance(changed, Stacks)
    assert changed.stacks == given.stacks
    assert changed.samples.tobytes() == given.samples.tobytes()
    text = str(changed.frames)
    for secret in ("madvise", "libjemalloc", "purge", "main", "evil", HOSTILE):
        assert secret not in text
    assert len(set(changed.frames)) == len(set(given.frames))
    modules = {frame.module for frame in changed.frames}
    assert len(modules) == len({frame.module for frame in given.frames})
    again = redact(replace(given, first_frame=len(FRAMES)))
    assert isinstance(again, Stacks)
    assert again.frames == changed.frames


def test_the_end_of_the_window_is_unchanged(tmp_path: Path) -> None:
    path = _written(tmp_path / "t.arrows", stacks([(2000, 1, 0)], time=END_NS - 1))
    last = read_all(path)[-1][1]
    assert isinstance(last, Facts)
    assert last.end_ns == END_NS
