# SPDX-License-Identifier: GPL-2.0-only
"""A trace reads back as written, by ptescope and by other Arrow readers."""

import json
import stat
from dataclasses import replace
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pytest

from shadow.errors import UsageError
from shadow.events import EVENT, Kind
from shadow.records import Events, Facts, Record
from shadow.replay import Question, replay_one
from shadow.snapshot import document
from shadow.trace import Row, TraceFile
from shadow.trace.encode import encode
from shadow.trace.layout import name_of
from tests.shadow.trace.traces import live_document, read_all, records, write_trace

_GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "two.arrows"
    write_trace(path, pids=(7, 8))
    return path


def _assert_same(found: list[tuple[int, Record]], expected: list[tuple[int, Record]]) -> None:
    assert len(found) == len(expected)
    for (process, record), (number, original) in zip(found, expected, strict=True):
        assert process == number
        assert name_of(record) == name_of(original)
        assert list(encode(record, 7)) == list(encode(original, 7))


def test_every_record_comes_back_as_it_was(trace: Path) -> None:
    expected = [(number, record) for number, pid in ((1, 7), (2, 8)) for record in records(pid)]
    _assert_same(sorted(read_all(trace), key=lambda entry: entry[0]), expected)


def test_a_replay_ends_with_the_document_of_who_was_there(trace: Path) -> None:
    outcome = replay_one(str(trace), Question(slots=True))
    assert outcome.problem is None
    found = document([each.snapshot for each in outcome.followed])
    assert json.dumps(found) == json.dumps(live_document(7, 8))


@pytest.mark.parametrize("version", [1])
def test_traces_of_every_version_can_be_read(version: int) -> None:
    """Golden files stay as their version wrote them with `write_trace`."""
    found = read_all(_GOLDEN / f"v{version}.arrows")
    _assert_same(found, [(1, _without_geometry(record)) for record in records(7)])


def _without_geometry(record: Record) -> Record:
    """As versions wrote it that knew x86-64 only."""
    if isinstance(record, Facts):
        return replace(record, kernel=replace(record.kernel, user_address_bits=None))
    return record


def test_others_read_the_events_as_they_are(trace: Path) -> None:
    """Pyarrow, polars and DuckDB read a trace, each with its own reader."""
    batches = [record.batch for record in records(7) if isinstance(record, Events)]
    faults = sum(int((batch["kind"] == Kind.FAULT).sum()) for batch in batches)
    table = pa.ipc.open_stream(trace).read_all()
    assert table.column_names == [*(EVENT.names or ()), "payload"]
    assert table["kind"].to_pylist().count(Kind.FAULT) == 2 * faults
    frame = polars.read_ipc_stream(trace)
    only = frame.filter(polars.col("kind") == Kind.FAULT, polars.col("tgid") == 7)
    assert only.height == faults
    assert only["address"][0] == batches[0]["address"][0]
    stream = pa.ipc.open_stream(trace)
    count = f"select count(*) from stream where kind = {Kind.FAULT:d} and tgid = 7"
    with duckdb.connect() as database:
        assert database.register("stream", stream).execute(count).fetchall() == [(faults,)]
    # A map of entries is readable too: the bytes of a row.
    maps = frame.filter(polars.col("kind") == Row.PTE_PAGE)["payload"]
    assert maps.bin.size().to_list() == [64] * 10


def test_only_its_owner_may_read_a_trace_and_none_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "t.arrows"
    TraceFile(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(UsageError, match=r"exists already \(--force replaces it\)"):
        TraceFile(path)
    path.chmod(0o644)
    TraceFile(path, force=True).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_force_replaces_only_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        TraceFile(tmp_path, force=True)
    with pytest.raises(UsageError, match="cannot be written"):
        TraceFile(tmp_path / "no" / "such.arrows")
