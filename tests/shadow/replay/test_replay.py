# SPDX-License-Identifier: GPL-2.0-only
"""One trace: to its end, to a moment, at intervals, under another policy."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from shadow.policy import POLICIES, Policy
from shadow.records import Events, Facts
from shadow.replay import Replay, open_trace
from shadow.snapshot import Snapshot
from shadow.trace import TraceFile
from tests.shadow.build import BASE, PAGE, EventScript
from tests.shadow.trace.traces import END_NS, facts, followed, records, write_trace

_START = facts().start_ns


@pytest.fixture
def trace(tmp_path: Path) -> str:
    write_trace(tmp_path / "t.arrows", pids=(7, 8))
    return str(tmp_path / "t.arrows")


def _at(trace: str, seconds: float) -> list[Snapshot]:
    with open_trace(trace) as reader:
        replay = Replay(reader, at=seconds)
        replay.run()
    assert replay.damage is None
    return replay.snapshots(slots=True)


def test_replay_until_a_time_gives_the_state_at_that_time(trace: str) -> None:
    """Each prefix of the records, at the time at which it was complete."""
    moments = {890_000: 2, 950_000: 4, 2_000_000: 6, 3_200_000: 7, 4_400_000: 9, 8_000_000: 11}
    for moment, count in moments.items():
        found, _ = _at(trace, (moment - _START) / 1e9)
        live = followed(stop=count)
        assert found == live.snapshot(moment, slots=True)
        assert found.window.end_ns == moment


def test_replay_can_stop_within_a_batch(trace: str) -> None:
    found, other = _at(trace, (1_010_000 - _START) / 1e9)
    assert found.window.events == {"fault": 3 + 10}
    assert other.window.events == found.window.events


def test_replay_until_a_time_omits_later_processes(tmp_path: Path) -> None:
    path = tmp_path / "t.arrows"
    file = TraceFile(path)
    for number, pid in ((1, 7), (2, 8)):
        first, *others = records(pid)
        assert isinstance(first, Facts)
        file.write(number, pid, replace(first, start_ns=_START + (number - 1) * 2_000_000))
        for record in others:
            file.write(number, pid, record)
    file.end()
    file.close()
    assert [found.process.pid for found in _at(str(path), 0.001)] == [7]
    assert [found.process.pid for found in _at(str(path), 0.003)] == [7, 8]


def test_a_time_after_the_end_gives_the_end(trace: str) -> None:
    found, _ = _at(trace, 100.0)
    assert found == followed().snapshot(END_NS, slots=True)


def test_rows_come_at_intervals_and_change_nothing(trace: str) -> None:
    shown: list[tuple[int, Snapshot]] = []
    with open_trace(trace) as reader:
        replay = Replay(reader, interval=0.001, row=lambda *row: shown.append(row))
        replay.run()
    assert [number for number, _ in shown] == [1] * 8 + [2] * 8
    rows = [row for number, row in shown if number == 1]
    assert [row.window.end_ns for row in rows] == [_START + n * 1_000_000 for n in range(1, 9)]
    assert [sum(row.window.events.values()) for row in rows] == [3, 42, 42, 42, 42, 52, 52, 52]
    for row in rows:
        then, _ = _at(trace, (row.window.end_ns - _START) / 1e9)
        assert row == replace(
            then, empty_slots=None, mappings=None, mappings_named=True, origins=None
        )
    assert replay.snapshots(slots=True)[0] == followed().snapshot(END_NS, slots=True)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_shows_its_own_pte_pages(policy: Policy, trace: str) -> None:
    with open_trace(trace) as reader:
        replay = Replay(reader)
        replay.run()
    found, _ = replay.snapshots(slots=True, policy=policy)
    plain = followed().snapshot(END_NS)
    outcome = plain.policies[policy.label]
    unplaced = 0 if policy == Policy.PTE_REF else plain.now.unplaced
    assert found.policies == plain.policies
    assert found.now.pte_pages == outcome.pte_pages + unplaced == sum(found.now.occupancy)
    assert found.now.empty == outcome.empty + unplaced == found.now.occupancy[0]
    assert found.empty_slots is not None
    assert len(found.empty_slots) == outcome.empty
    assert found.now.refs == plain.now.refs
    changed = policy != Policy.PT_RECLAIM
    assert any("This report shows the PTE pages" in note for note in found.notes) == changed
    assert (found.now.vm_pte_kib is None) == changed


def test_a_long_trace_needs_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    """Batches of 60,000 events, 2.4 MB each in memory."""
    events = EventScript().touch(BASE, 60_000 * PAGE).batch()
    peaks = []
    for batches in (4, 40):
        path = tmp_path / f"{batches}.arrows"
        file = TraceFile(path)
        file.write(1, 7, facts())
        for _ in range(batches):
            file.write(1, 7, Events(events))
        file.end()
        file.close()
        tracemalloc.start()
        with open_trace(str(path)) as reader:
            replay = Replay(reader)
            replay.run()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert replay.snapshots()[0].window.events["fault"] == batches * len(events)
    assert peaks[1] < peaks[0] + events.nbytes


def test_the_progress_is_that_of_the_file(trace: str) -> None:
    places: list[int] = []
    with open_trace(trace) as reader:
        replay = Replay(reader, progress=places.append)
        replay.run()
    assert len(places) == 2 * len(records())
    assert places == sorted(places)
    assert places[-1] < Path(trace).stat().st_size
