# SPDX-License-Identifier: GPL-2.0-only
"""`advise TRACE` from the command line: output and statuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from shadow.records import Events, Facts, Seed
from shadow.table.page_set import Pages
from shadow.table.vma import VMA, VmaFlag
from shadow.trace import TraceFile
from tests.shadow.advice.build import jemalloc, pieces
from tests.shadow.build import BASE, SLOT
from tests.shadow.trace.traces import facts
from tracer.cli import main

_SLOTS = 600
_END_NS = 10**10


def _seed() -> Seed:
    vmas: npt.NDArray[np.void] = np.zeros(1, VMA)
    vmas[0] = (BASE, BASE + _SLOTS * SLOT, VmaFlag.READ | VmaFlag.WRITE, 0, BASE // 4096, 0)
    nowhere = np.empty(0, np.int64)
    pages = Pages(nowhere, np.empty((0, 8), np.uint64), nowhere, np.empty(0, np.uint8), exact=True)
    return Seed(600, pages, vmas, 0)


def _facts(pid: int) -> Facts:
    begin = facts(pid)
    process = replace(begin.process, allocator=jemalloc(dirty_decay_ms=0))
    kernel = replace(begin.kernel, seed="census")
    return replace(begin, process=process, kernel=kernel, max_map_count=65530)


def _write(path: Path, *pids: int) -> Path:
    """Write a trace of a jemalloc that purges at once, each slot in eight pieces."""
    file = TraceFile(path)
    for number, pid in enumerate(pids, 1):
        history = pieces(_SLOTS).batch()
        begin = _facts(pid)
        end = replace(begin, end_ns=_END_NS, told_ns=_END_NS)
        for record in (begin, _seed(), Events(history), end):
            file.write(number, pid, record)
    file.end()
    file.close()
    return path


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return _write(tmp_path / "t.arrows", 7)


def _advise(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> Any:
    assert main(["advise", "--json", *map(str, arguments)]) == status
    return json.loads(capsys.readouterr().out)["processes"]


def _by_rule(process: dict[str, Any]) -> dict[str, Any]:
    return {finding["rule"]: finding for finding in process["advice"]}


def test_a_trace_gives_the_advice_of_a_live_process(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (process,) = _advise(capsys, trace)
    found = _by_rule(process)
    assert found["immediate_purge"]["effect"]["pte_pages"] == [330, _SLOTS]
    assert len(found["own_call"]["slots"]) == _SLOTS
    assert process["advice_limits"] == []
    assert main(["advise", str(trace)]) == 0
    text = capsys.readouterr().out
    assert "replay reproduces the 600 PTE pages" in text
    assert "MALLOC_CONF=dirty_decay_ms:10000" in text


def test_all_processes_of_all_traces_get_advice(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(trace.with_name("u.arrows"), 8, 9)
    processes = _advise(capsys, trace.parent)
    assert [process["process"]["pid"] for process in processes] == [7, 8, 9]
    assert all("immediate_purge" in _by_rule(process) for process in processes)


def test_dropped_events_mean_no_prediction(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (process,) = _advise(capsys, trace, "--keep", "100")
    assert _by_rule(process)["immediate_purge"]["effect"] is None
    assert main(["advise", str(trace), "--keep", "100"]) == 0
    assert "more events than ptescope keeps (--keep allows more)" in capsys.readouterr().out


def test_a_damaged_trace_gives_advice_and_reports_the_damage(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace.write_bytes(trace.read_bytes()[:-700])
    (process,) = _advise(capsys, trace, status=5)
    assert process["now"]["empty"] == _SLOTS
    assert main(["advise", str(trace)]) == 5
    out, err = capsys.readouterr()
    assert out.startswith("server (pid 7): 600 PTE pages")
    assert err.startswith(f"ptescope: {trace} is damaged at byte ")


def test_an_unreadable_trace_does_not_stop_the_others(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = trace.with_name("s.arrows")
    broken.write_bytes(b"no trace")
    processes = _advise(capsys, broken, trace, status=5)
    assert [process["process"]["pid"] for process in processes] == [7]
    assert main(["advise", str(broken)]) == 5
    assert capsys.readouterr().out == ""


def test_advice_on_a_perf_import_lists_what_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process touches 2 MiB and discards them in two halves."""
    script, trace = tmp_path / "perf.txt", tmp_path / "perf.arrows"
    lines, time = ["# os release : 6.18.0"], 1.0

    def line(text: str) -> None:
        nonlocal time
        time += 1e-6
        lines.append(f"  srv  7/7  [000]  {time:.9f}: {text} ")

    for slot in range(BASE, BASE + 40 * SLOT, SLOT):
        line(f"exceptions:page_fault_user: address={slot:#x} ip=0x1 error_code=0x6")
        for half in (slot, slot + SLOT // 2):
            line(
                f"syscalls:sys_enter_madvise: start: {half:#x}, len_in: {SLOT // 2:#x}, "
                "behavior: 0x4"
            )
            line("syscalls:sys_exit_madvise: 0x0")
    script.write_text("\n".join(lines) + "\n")
    assert main(["import", str(script), "-o", str(trace)]) == 0
    (process,) = _advise(capsys, trace)
    found = _by_rule(process)
    assert "nothing_to_do" not in found  # the state before the recording is unknown
    assert "own_call" not in found
    assert found["small_purges"]["effect"] is None
    assert found["small_purges"]["numbers"]["covering"] == 0
    said = " ".join(process["advice_limits"])
    for part in ("nothing is predicted", "allocator", "mappings of the empty PTE pages"):
        assert part in said
    assert main(["advise", str(trace)]) == 0
    assert "Imported from perf script" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "one of -p PID and TRACE"),
        (["-p", "1", "t.arrows"], "one of -p PID and TRACE"),
        (["-d", "3", "t.arrows"], "its own end"),
        (["/no/such.arrows"], "cannot be opened"),
    ],
)
def test_contradictory_options_are_status_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["advise", *arguments]) == 2
    assert said in capsys.readouterr().err
