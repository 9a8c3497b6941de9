# SPDX-License-Identifier: GPL-2.0-only
"""The public API on traces, which need neither rights nor a kernel."""

from pathlib import Path

import pyarrow as pa
import pytest

import ptescope
from shadow.report.text import render
from tests.examples import run_examples
from tests.shadow.trace.traces import END_NS, followed, live_document, write_trace


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "t.arrows"
    write_trace(path)
    return path


def test_examples_that_read_traces_run(trace: Path) -> None:
    assert run_examples(ptescope, {"replay", "advise"}, trace=trace) == 6


def test_every_public_name_is_documented() -> None:
    for name in ptescope.__all__:
        assert getattr(ptescope, name).__doc__, name


def test_a_replay_equals_the_live_snapshot(trace: Path) -> None:
    (snapshot,) = ptescope.replay(trace)
    assert {"schema": 1, "processes": [snapshot.as_json()]} == live_document(7)
    assert render(snapshot)


def test_the_table_has_a_row_for_each_pte_page(trace: Path) -> None:
    (snapshot,) = ptescope.replay(trace)
    table = snapshot.to_arrow()
    assert table.num_rows == snapshot.now.pte_pages - snapshot.now.unplaced
    assert table.schema.field("slot").type == pa.uint64()
    empty = table.filter(table["empty"])
    assert empty["slot"].to_pylist() == snapshot.empty_slots
    assert sum(table["entries"].to_pylist()) == snapshot.now.refs
    rfc = sum(table["under_pte_ref"].to_pylist())
    assert rfc == snapshot.policies["pte_ref"].pte_pages


def test_the_table_under_another_policy_has_its_pte_pages(trace: Path) -> None:
    (snapshot,) = ptescope.replay(trace, policy=ptescope.Policy.NONE)
    table = snapshot.to_arrow()
    assert table.num_rows == snapshot.policies["none"].pte_pages
    assert all(table["under_none"].to_pylist())


def test_a_snapshot_without_pages_says_so() -> None:
    snapshot = followed().snapshot(END_NS)
    with pytest.raises(ptescope.UsageError, match="has counts only"):
        snapshot.to_arrow()


def test_damage_is_raised_or_what_precedes_it_is_returned(trace: Path) -> None:
    whole = trace.read_bytes()
    trace.write_bytes(whole[: len(whole) - 20])
    with pytest.raises(ptescope.DamagedTraceError, match="damaged at byte"):
        ptescope.replay(trace)
    with pytest.raises(ptescope.DamagedTraceError, match="damaged at byte"):
        ptescope.advise(trace)
    (snapshot,) = ptescope.replay(trace, partial=True)
    assert snapshot.process.comm == "server"


def test_at_stops_earlier(trace: Path) -> None:
    (begin,) = ptescope.replay(trace, at=0.0005)
    (end,) = ptescope.replay(trace)
    assert sum(begin.window.events.values()) < sum(end.window.events.values())


def test_no_trace_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(ptescope.UsageError):
        ptescope.replay(tmp_path / "none.arrows")
