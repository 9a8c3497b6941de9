# SPDX-License-Identifier: GPL-2.0-only
"""Every command, with terminal escapes in traces and file names."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from shadow.records import Facts
from shadow.trace import TraceFile
from tests.shadow.hostile import HOSTILE, is_harmless, poisoned
from tests.shadow.trace.traces import records
from tracer.cli import _COMMANDS, main

_ARGUMENT = HOSTILE.replace("\ud800", "")
"""Possible text in argv: Python shows bytes that are not UTF-8 as U+DC80 to U+DCFF."""
_IN_NAMES = _ARGUMENT.replace("/", "")
"""Possible names of files."""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A trace with hostile text from the process, the host and the path."""
    folder = tmp_path / _IN_NAMES
    folder.mkdir()
    path = folder / "t.arrows"
    file = TraceFile(path)
    for number, pid in enumerate((7, 8), 1):
        for record in records(pid):
            file.write(number, pid, poisoned(record) if isinstance(record, Facts) else record)
    file.end()
    file.close()
    return path


def _said(
    arguments: list[str], capsys: pytest.CaptureFixture[str], status: int = 0
) -> tuple[str, str]:
    ended: int | str | None
    try:
        ended = main(arguments)
    except SystemExit as stop:
        ended = stop.code
    assert ended == status
    out, err = capsys.readouterr()
    assert is_harmless(out)
    assert is_harmless(err)
    out.encode()
    err.encode()
    return out, err


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay", "{trace}"],
        ["replay", "{trace}", "-i", "0.002"],
        ["replay", "{trace}", "--table"],
        ["replay", "{trace}", "{trace}"],
        ["replay", "{trace}", "--slots", "--policy", "pte_ref"],
        ["replay", "{trace}", "--json"],
        ["advise", "{trace}"],
        ["advise", "{trace}", "--detail"],
        ["advise", "{trace}", "--json"],
        ["replay", "{trace}", "--parquet", "{folder}/t.parquet"],
        ["export", "{trace}", "--parquet", "{folder}/e.parquet", "--perfetto", "{folder}/e.json"],
        ["report", "{trace}", "-o", "{folder}/r.html"],
    ],
)
def test_a_hostile_trace_moves_no_cursor(
    arguments: list[str], trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = _said([a.format(trace=trace, folder=trace.parent) for a in arguments], capsys)
    if "--json" in arguments:
        process = json.loads(out)["processes"][0]["process"]
        assert process["comm"] == "server" + HOSTILE[:-2] + "\\xff\\ud800"
    elif arguments[0] not in ("export", "report"):
        assert "server\\x1b]0;own" in out


def test_an_export_of_a_hostile_trace_is_valid_json(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counters = trace.with_name("c.json")
    _said(["export", str(trace), "--perfetto", str(counters)], capsys)
    assert json.loads(counters.read_text())["traceEvents"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay", f"/no/{_ARGUMENT}"],
        ["advise", f"/no/{_ARGUMENT}"],
        ["report", f"/no/{_ARGUMENT}", "-o", "/no/r"],
        ["report", "/no/t", "-o", f"/no/{_ARGUMENT}"],
        ["export", f"/no/{_ARGUMENT}", "--parquet", "/no/p"],
        ["import", f"/no/{_ARGUMENT}", "-o", "/no/t"],
        ["attach", "-p", _ARGUMENT],
        ["attach", "-n", _ARGUMENT],
        ["attach", f"--nope{_ARGUMENT}"],
        ["attach", "-p", "1", "--backend", _ARGUMENT],
        ["record", "-p", "4194305", "-o", _ARGUMENT],
        ["census", _ARGUMENT],
        ["daemon", "--listen", _ARGUMENT],
        ["daemon", "--max-memory", _ARGUMENT],
        ["daemon", "--record-dir", _ARGUMENT],
        ["top", "-i", _ARGUMENT],
        ["doctor", _ARGUMENT],
        [_ARGUMENT],
    ],
)
def test_messages_about_arguments_are_harmless(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status = 3 if arguments[:2] == ["attach", "-n"] else 2
    _, err = _said(arguments, capsys, status)
    assert "ptescope" in err


def test_every_command_is_tried() -> None:
    text = Path(__file__).read_text() + Path("tests/live/test_hostile.py").read_text()
    assert {name for name in _COMMANDS if re.search(rf'"{name}"', text)} == _COMMANDS.keys()


def test_a_damaged_trace_is_reported_in_one_line(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace.write_bytes(trace.read_bytes()[:-700])
    _, err = _said(["replay", str(trace)], capsys, 5)
    assert len(err.splitlines()) == 1


def test_facts_with_surrogates_can_be_written(tmp_path: Path) -> None:
    first = records()[0]
    assert isinstance(first, Facts)
    process = replace(first.process, exe="/bin/\udcff")
    file = TraceFile(tmp_path / "t.arrows")
    file.write(1, 7, replace(first, process=process))
    file.end()
    file.close()
