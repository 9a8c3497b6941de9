# SPDX-License-Identifier: GPL-2.0-only
"""Origins of a program with known calls: in a live session, a command and a replay."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shadow.page_columns import pte_pages_of
from shadow.replay import Question, replay_one
from tests.live import origins
from tests.live.attached import attached
from tests.live.origins import FIRST_SLOTS, SLOT

_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_STEPS = ["filler", *list(FIRST_SLOTS)[:-1]]
_EXPECTED = {
    "whole-slots": ("MADV_DONTNEED", SLOT // 2, 3),
    "small-purges": ("MADV_DONTNEED", 64 << 10, 5),
    "unmapper": ("munmap", SLOT - 4096, 4),
    "mover": ("mremap", 4096, 1),
    "puncher": ("fallocate(PUNCH_HOLE)", 2 * SLOT, 2),
}
"""By step: the call, its size in bytes, and the number of PTE pages that it empties."""
_NO_THREAD = {"puncher": None}
"""The event of a hole in a file has an inode instead of a thread."""


@contextmanager
def _program() -> Iterator["subprocess.Popen[str]"]:
    program = subprocess.Popen(
        [sys.executable, origins.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield program
    finally:
        program.kill()
        program.communicate()


def _step(program: "subprocess.Popen[str]", name: str) -> None:
    assert program.stdin
    assert program.stdout
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == f"{name}\n"


def _base(program: "subprocess.Popen[str]") -> int:
    assert program.stdout
    return int(program.stdout.readline())


def _thread(step: str) -> str | None:
    return _NO_THREAD.get(step, step)


def _empty_by(step: str, row: dict[str, Any]) -> bool:
    """Whether this PTE page is empty and the thread of this step removed its last entry."""
    return bool(row["empty"]) and row["emptied_by"] == _thread(step)


def test_each_pte_page_names_its_call_its_size_and_its_threads(tmp_path: Path) -> None:
    """The threads end before the snapshot."""
    with _program() as program:
        base = _base(program)
        with attached(program.pid) as session:
            for name in _STEPS:
                _step(program, name)
                session.pump()
            session.audit()
            assert session.audits.empty_missing == session.audits.empty_extra == 0
            threads = session.engine.facts.threads | session._threads.names
            rows = pte_pages_of(session.table, threads=threads).to_arrow().to_pylist()
    inside = [row for row in rows if base <= row["slot"] < base + FIRST_SLOTS["end"] * SLOT]
    assert {row["made_by"] for row in inside} == {"filler"}
    assert {row["made_call"] for row in inside} == {"fault"}
    found = {
        name: {
            (row["emptied_call"], row["emptied_bytes"]) for row in inside if _empty_by(name, row)
        }
        for name in _EXPECTED
    }
    counts = {name: sum(_empty_by(name, row) for row in inside) for name in _EXPECTED}
    for name, (call, size, count) in _EXPECTED.items():
        assert found[name] == {(call, size)}, name
        assert counts[name] == count, name
    times = [row["emptied_ns"] for name in _EXPECTED for row in inside if _empty_by(name, row)]
    assert times == sorted(times)


@pytest.mark.parametrize("as_json", [True, False])
def test_the_report_and_its_replay_name_them(tmp_path: Path, as_json: bool) -> None:
    trace = tmp_path / "origins.arrows"
    with _program() as program:
        _base(program)
        arguments = [_PTESCOPE, "attach", "-p", str(program.pid), "-o", str(trace), "-d", "12"]
        with subprocess.Popen(
            [*arguments, *["--json"] * as_json],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as following:
            assert following.stderr
            for line in following.stderr:
                if "following" in line:
                    break
            for name in _STEPS:
                _step(program, name)
            out, _ = following.communicate(timeout=60)
    (followed,) = replay_one(str(trace), Question()).followed
    emptied = followed.snapshot.origins
    assert emptied is not None
    if as_json:
        (process,) = json.loads(out)["processes"]
        assert process["origins"] == followed.snapshot.as_json()["origins"]
        for name, (call, size, count) in _EXPECTED.items():
            found = [
                each["pte_pages"]
                for each in process["origins"]["emptied"]
                if (each["call"], each["thread"]) == (call, _thread(name))
                and each["least_bytes"] <= size <= each["most_bytes"]
            ]
            assert found == [count], name
    else:
        assert "5 of " in out
        assert "MADV_DONTNEED of 64 KiB by small-purges" in out
