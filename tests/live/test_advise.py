"""`ptescope advise` on a real program whose jemalloc purges at once."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_PHASE = Path(__file__).parents[2] / "tools" / "workloads" / "phase.c"
_MIB = 256
_SLOT_MIB = 2


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phase") / "phase"
    subprocess.run(["gcc", "-O1", "-pthread", "-o", path, _PHASE], check=True)
    return path


@contextmanager
def _waiting(program: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The program, before it begins to work."""
    command = [str(program), "2", str(_MIB), "65536", "1048576", "0", "0.5"]
    with subprocess.Popen(
        command,
        env=os.environ | {"LD_PRELOAD": "libjemalloc.so.2"} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as waiting:
        assert waiting.stdout
        assert waiting.stdout.readline() == "ready\n"
        try:
            yield waiting
        finally:
            waiting.kill()


def _advise(pid: int, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tracer.cli", "advise", "-p", str(pid), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )


def _worked(waiting: subprocess.Popen[str], *arguments: str) -> str:
    """What advise prints of a program that works while it is followed."""
    advising = _advise(waiting.pid, "-d", "8", *arguments)
    time.sleep(4)  # until it is attached
    assert waiting.stdin
    waiting.stdin.write("begin\n")
    output, errors = advising.communicate(timeout=60)
    assert advising.returncode == 0, errors
    return output


def _findings(output: str) -> dict[str, Any]:
    (process,) = json.loads(output)["processes"]
    return {finding["rule"]: finding for finding in process["advice"]}


def test_the_findings_of_a_jemalloc_that_purges_at_once(program: Path) -> None:
    with _waiting(program, MALLOC_CONF="dirty_decay_ms:0") as waiting:
        output = _worked(waiting, "--json")
    found = _findings(output)
    least, most = found["immediate_purge"]["effect"]["pte_pages"]
    assert 0 < least <= most <= 2 * least
    assert most < 2 * _MIB / _SLOT_MIB
    assert found["immediate_purge"]["change"]["how"] == ["MALLOC_CONF=dirty_decay_ms:10000"]
    assert "retain" not in found  # one change at a time: each free would be a munmap
    empty = json.loads(output)["processes"][0]["now"]["empty"]
    assert 0 < len(found["own_call"]["slots"]) <= empty


def test_too_few_events_kept_means_no_prediction(program: Path) -> None:
    with _waiting(program, MALLOC_CONF="dirty_decay_ms:0") as waiting:
        output = _worked(waiting, "--keep", "1000")
    assert "nothing is predicted (--keep takes more of them)" in output
    assert "dirty_decay_ms:0 purges in pieces" in output


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(("-d", "0"), 2), (("--keep", "-1"), 2)],
)
def test_a_request_that_makes_no_sense(arguments: tuple[str, ...], status: int) -> None:
    advising = _advise(os.getpid(), *arguments)
    _, errors = advising.communicate(timeout=60)
    assert advising.returncode == status
    assert errors.startswith("ptescope: ")
    assert "Traceback" not in errors


def test_a_process_that_ends_before_anything_is_known(program: Path) -> None:
    with _waiting(program) as waiting:
        advising = _advise(waiting.pid, "-d", "30")
        time.sleep(4)
        waiting.kill()
        _, errors = advising.communicate(timeout=60)
    assert advising.returncode == 3
    assert "ended" in errors
    assert "Traceback" not in errors
