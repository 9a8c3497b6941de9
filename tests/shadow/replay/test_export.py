# SPDX-License-Identifier: GPL-2.0-only
"""The target tools can read exported traces."""

import json
from pathlib import Path

import polars
import pytest

from shadow.events import Kind
from shadow.replay import open_trace, to_parquet, to_perfetto
from tests.shadow.trace.traces import END_NS, followed, write_trace


@pytest.fixture
def trace(tmp_path: Path) -> str:
    write_trace(tmp_path / "t.arrows", pids=(7, 8))
    return str(tmp_path / "t.arrows")


def test_parquet_has_the_rows_of_the_trace(trace: str, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with open_trace(trace) as reader, path.open("wb") as file:
        assert to_parquet(reader, file) is None
    rows = polars.read_ipc_stream(trace).sort("tgid", maintain_order=True)
    assert polars.read_parquet(path).sort("tgid", maintain_order=True).equals(rows)
    assert (rows["kind"] == Kind.FAULT).sum() > 0


def test_perfetto_gets_counters_of_each_process(trace: str, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    with open_trace(trace) as reader, path.open("w") as file:
        assert to_perfetto(reader, file, 0.001) is None
    events = json.loads(path.read_text())["traceEvents"]
    names = {event["pid"]: event["args"]["name"] for event in events if "name" in event["args"]}
    assert names == {7: "server", 8: "server"}
    pages = [event for event in events if event["name"] == "PTE pages" and event["pid"] == 7]
    assert [event["ph"] for event in pages] == ["C"] * 9
    assert pages[-1]["ts"] == END_NS / 1000
    policies = followed().snapshot(END_NS).policies
    assert pages[-1]["args"] == {label: policy.pte_pages for label, policy in policies.items()}
    empty = [e for e in events if e["name"] == "empty PTE pages" and e["pid"] == 7]
    assert empty[-1]["args"] == {label: policy.empty for label, policy in policies.items()}


def test_what_precedes_the_damage_is_exported(trace: str, tmp_path: Path) -> None:
    whole = Path(trace).read_bytes()
    Path(trace).write_bytes(whole[:-300])
    with open_trace(trace) as reader, (tmp_path / "t.parquet").open("wb") as file:
        damage = to_parquet(reader, file)
    assert damage is not None
    assert polars.read_parquet(tmp_path / "t.parquet").height > 0
