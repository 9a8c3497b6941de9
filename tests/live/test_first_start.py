# SPDX-License-Identifier: GPL-2.0-only
"""The first `attach` on a machine follows while the shadow table is compiled.

The bounds are wide enough for a busy machine; `tools.bench.start` has the bars.
"""

import json
import mmap
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.actor import SLOT, Actor
from tools.bench.peak import peak_kib

pytestmark = pytest.mark.alone

_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_BASE, _SLOTS = 0x20_0000_0000, 40
_MOST_SECONDS = 90
"""Processor time of the compilers and of everything else."""
_MOST_MIB = 250


@pytest.fixture
def actor() -> Iterator[Actor]:
    actor = Actor()
    yield actor
    actor.close()


def _follow(pid: int, cache: Path, *options: str) -> "subprocess.Popen[str]":
    """An `attach` that follows by now."""
    program = subprocess.Popen(
        [_PTESCOPE, "attach", "-p", str(pid), "--json", "--slots", *options],
        env=os.environ | {"PTESCOPE_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stderr
    said = ""
    while "following" not in said:
        said = program.stderr.readline()
        assert said, program.stderr.read()
    return program


def test_it_keeps_the_events_while_it_compiles(actor: Actor, tmp_path: Path) -> None:
    """Ctrl-C ends the run with its report then, too."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with _follow(actor.pid, tmp_path) as program:
        assert not [*tmp_path.glob("*/*.image")], "nothing was compiled"
        actor.map(_BASE, _SLOTS * SLOT)
        actor.advise(_BASE, _SLOTS * SLOT, mmap.MADV_NOHUGEPAGE)
        actor.touch(_BASE, _SLOTS * SLOT, SLOT)
        for slot in range(_SLOTS // 2):
            actor.advise(_BASE + slot * SLOT, mmap.PAGESIZE, mmap.MADV_DONTNEED)
        assert not [*tmp_path.glob("*/*.image")], "it was compiled before the calls"
        program.send_signal(signal.SIGINT)
        out, said = program.communicate(timeout=600)
    assert program.returncode == 0
    assert "the report waits for the compiler" in said
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    (process,) = json.loads(out)["processes"]
    assert process["window"]["events"]["dontneed"] == _SLOTS // 2
    assert process["window"]["lost"] == 0
    empty = {_BASE + slot * SLOT for slot in range(_SLOTS // 2)}
    inside = range(_BASE, _BASE + _SLOTS * SLOT)
    assert {slot for slot in process["empty_slots"] if slot in inside} == empty
    assert process["audit"]["runs"] == 1
    assert process["audit"]["empty_missing"] == process["audit"]["empty_extra"] == 0
    seconds = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    assert seconds <= _MOST_SECONDS

    peak = 0
    with _follow(actor.pid, tmp_path, "-d", "1") as program:
        while program.poll() is None:
            peak = max(peak, peak_kib(program.pid))
            time.sleep(0.02)
    assert program.returncode == 0
    assert 0 < peak <= _MOST_MIB << 10
