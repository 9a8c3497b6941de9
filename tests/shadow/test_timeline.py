# SPDX-License-Identifier: GPL-2.0-only
"""The course of time is bounded, ends at the end, and equals snapshots at the same times."""

from pathlib import Path

import numpy as np
import pytest

import ptescope
from shadow.advice.collect import evidence_of_trace
from shadow.errors import DamagedTraceError
from shadow.policy import POLICIES, Policy
from shadow.replay import Replay, open_trace
from shadow.replay.span import span_of
from shadow.take_cells import cells_of
from shadow.timeline import POINTS, Timeline, Timelines
from tests.shadow.trace.traces import END_NS, followed, records, write_trace


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    write_trace(tmp_path / "t.arrows", pids=(7, 8))
    return tmp_path / "t.arrows"


def _timelines(trace: Path) -> Timelines:
    with open_trace(str(trace)) as reader:
        timelines = Timelines(span_of(reader))
    with open_trace(str(trace)) as reader:
        found, _ = evidence_of_trace(reader, timelines=timelines)
        assert len(list(found)) == 2
    return timelines


def test_the_points_of_a_trace_are_the_rows_of_a_replay(trace: Path) -> None:
    timelines = _timelines(trace)
    rows = []
    with open_trace(str(trace)) as reader:
        run = Replay(
            reader,
            interval=timelines.interval,
            row=lambda number, snapshot: rows.append((number, snapshot)),
        )
        run.run()
    for number, timeline in enumerate(timelines, 1):
        of_process = [snapshot for each, snapshot in rows if each == number]
        assert 100 < len(timeline.points) <= POINTS + 1
        for point, snapshot in zip(timeline.points, of_process, strict=False):
            assert point.time_ns == snapshot.window.end_ns
            outcomes = [snapshot.policies[policy.label] for policy in POLICIES]
            assert point.pte_pages == tuple(outcome.pte_pages for outcome in outcomes)
            assert point.empty == tuple(outcome.empty for outcome in outcomes)
        assert timeline.points[-1].time_ns == END_NS
        assert timeline.moments[-1].snapshot == run.snapshots()[number - 1]


def test_a_moment_is_a_replay_up_to_it(trace: Path) -> None:
    first, _ = _timelines(trace)
    begin = records()[0]
    for moment in first.moments[:: len(first.moments) // 5]:
        end_ns = moment.snapshot.window.end_ns
        seconds = (end_ns - begin.start_ns) / 1e9  # type: ignore[union-attr]
        again, *_ = ptescope.replay(trace, at=seconds)
        assert again.now == moment.snapshot.now
        assert again.pages
        running = moment.cells.entries_by_slot(Policy.PT_RECLAIM)
        assert running == dict(
            zip(again.pages.slots.tolist(), again.pages.entries.tolist(), strict=True)
        )


def test_a_long_run_keeps_a_bounded_number_in_order() -> None:
    engine, timeline = followed(), Timeline()
    for tick in range(20_000):
        timeline.note(engine, 1000 + tick)
    timeline.end(engine, END_NS)
    assert len(timeline.points) <= 2 * POINTS
    assert len(timeline.moments) <= POINTS / 2 + 1
    for times in (
        [point.time_ns for point in timeline.points],
        [moment.snapshot.window.end_ns for moment in timeline.moments],
    ):
        assert times == sorted(set(times))
        assert times[-1] == END_NS
    steps = np.diff([point.time_ns for point in timeline.points[:-1]])
    assert set(steps.tolist()) == {64}


def test_a_crowd_has_fewer_moments_each() -> None:
    engine = followed()
    counts = []
    for crowd in (1, 100):
        timeline = Timeline(crowd)
        for tick in range(POINTS):
            timeline.note(engine, 1000 + tick)
        counts.append(len(timeline.moments))
    assert counts[0] == POINTS // 4
    assert counts[1] < counts[0] / 10


def test_cells_agree_with_each_policy() -> None:
    engine = followed()
    cells = cells_of(engine)
    for policy in POLICIES:
        pages = engine.table.pages(policy)
        assert cells.entries_by_slot(policy) == pages.entries_by_slot()


def test_the_span_of_a_torn_trace_is_that_of_its_intact_part(trace: Path) -> None:
    with open_trace(str(trace)) as reader:
        whole = span_of(reader)
    assert (whole.start_ns, whole.end_ns, whole.processes) == (500, END_NS, 2)
    trace.write_bytes(trace.read_bytes()[:-5000])
    with open_trace(str(trace)) as reader:
        torn = span_of(reader)
    assert torn.processes >= 1
    assert torn.end_ns <= whole.end_ns
    with open_trace(str(trace)) as reader, pytest.raises(DamagedTraceError):
        list(reader)
