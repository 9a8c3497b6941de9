# SPDX-License-Identifier: GPL-2.0-only
"""replay, import and export from the command line: output, files and statuses."""

import json
from pathlib import Path

import polars
import pytest

from shadow.snapshot import document
from tests.shadow.trace.traces import END_NS, followed, write_trace
from tracer.cli import main


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    write_trace(tmp_path / "t.arrows")
    return tmp_path / "t.arrows"


def test_one_trace_gives_the_report(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--json", str(trace)]) == 0
    assert json.loads(capsys.readouterr().out) == document([followed().snapshot(END_NS)])
    assert main(["replay", str(trace), "-i", "0.002"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["seconds", "events", "PTE", "pages", "empty", "lazyfree", "lost"]
    assert [line.split()[0] for line in lines[1:5]] == ["0.0"] * 4
    assert lines[5].startswith("server (pid 7)")


def test_several_traces_give_a_table(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trace(trace.with_name("u.arrows"), pids=(8, 9))
    table = trace.with_name("t.parquet")
    assert main(["replay", str(trace.parent), "--parquet", str(table)]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "host"
    assert [row.split()[3] for row in rows] == ["7", "8", "9"]
    assert polars.read_parquet(table)["pid"].to_list() == [7, 8, 9]
    assert table.stat().st_mode & 0o777 == 0o600
    assert main(["replay", str(trace), "--parquet", str(table)]) == 2
    assert main(["replay", str(trace), "--parquet", str(table), "--force"]) == 0


def test_a_damaged_trace_gives_a_report_and_an_error(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace.write_bytes(trace.read_bytes()[:-700])
    assert main(["replay", "--json", str(trace)]) == 5
    out, err = capsys.readouterr()
    assert json.loads(out)["processes"][0]["process"]["pid"] == 7
    assert err.startswith(f"ptescope: {trace} is damaged at byte ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/no/such.arrows"], "cannot be opened"),
        (["{trace}", "{trace}", "/no/such.arrows", "-i", "1"], "one trace at a time"),
        (["{trace}", "--jobs", "2", "--dask", "tcp://x:1"], "one of --jobs and --dask"),
    ],
)
def test_requests_that_cannot_be_met_are_status_2(
    arguments: list[str], said: str, trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", *(argument.format(trace=trace) for argument in arguments)]) == 2
    assert said in capsys.readouterr().err


def test_exports_are_private_and_replace_nothing(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counters, table = trace.with_name("c.json"), trace.with_name("t.parquet")
    command = ["export", str(trace), "--perfetto", str(counters), "--parquet", str(table)]
    assert main(command) == 0
    assert {path.stat().st_mode & 0o777 for path in (counters, table)} == {0o600}
    assert main(command) == 2
    assert "exists already (--force replaces it)" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert main(["export", str(trace)]) == 2


def test_an_import_reports_its_counts(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script, imported = trace.with_name("perf.txt"), trace.with_name("perf.arrows")
    fault = "  srv  7/7  [000]  1.000000001: exceptions:page_fault_user: address=0x7000 ip=0x1 "
    script.write_text(fault + "error_code=0x6\n and a line of something else\n")
    assert main(["import", str(script), "-o", str(imported)]) == 0
    assert capsys.readouterr().err == (
        f"ptescope: {imported}: 1 process, 1 event from 1 line, 1 not understood\n"
    )
    assert main(["replay", str(imported)]) == 0
    assert "earlier page tables and VMAs are unknown" in capsys.readouterr().out
    assert main(["import", str(trace.with_name("none")), "-o", str(imported)]) == 2
