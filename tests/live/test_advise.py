# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope advise` on a real program with a jemalloc that purges at once."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shadow.advice import advise
from shadow.advice.collect import evidence_of
from shadow.engine import Engine
from shadow.history import HistoryStore
from shadow.records import Record
from shadow.trace import Redactor, TraceWriter
from tests.live.attached import attached
from tools.workloads.redis import Redis, private_redis

_POWERLESS = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
_WITHOUT_BCC = """
import sys
sys.modules["bcc"] = None
from tracer.cli import main
sys.exit(main(["advise", *sys.argv[1:]]))
"""
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
    """The program, which waits before it works."""
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
    command = [sys.executable, "-m", "tracer", "advise", "-p", str(pid), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )


def _until_it_follows(advising: subprocess.Popen[str]) -> None:
    assert advising.stderr
    said = iter(advising.stderr.readline, "")
    assert any(line.startswith("ptescope: following phase (pid ") for line in said)


def _worked(waiting: subprocess.Popen[str], *arguments: str) -> str:
    """The output of advise for a program that works while advise follows it."""
    advising = _advise(waiting.pid, "-d", "8", *arguments)
    _until_it_follows(advising)
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
    assert found["immediate_purge"]["change"]["how"] == [
        "MALLOC_CONF=dirty_decay_ms:10000,background_thread:true"
    ]
    assert "retain" not in found  # alone, this change would make each free a munmap
    empty = json.loads(output)["processes"][0]["now"]["empty"]
    assert 0 < len(found["own_call"]["slots"]) <= empty


def test_too_few_events_kept_means_no_prediction(program: Path) -> None:
    with _waiting(program, MALLOC_CONF="dirty_decay_ms:0") as waiting:
        output = _worked(waiting, "--keep", "1000", "--detail")
    assert "nothing is predicted, because there were more events than ptescope keeps" in output
    assert "dirty_decay_ms:0 purges in pieces" in output


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(("-d", "0"), 2), (("--keep", "-1"), 2)],
)
def test_contradictory_options_are_usage_errors(arguments: tuple[str, ...], status: int) -> None:
    advising = _advise(os.getpid(), *arguments)
    _, errors = advising.communicate(timeout=60)
    assert advising.returncode == status
    assert "Traceback" not in errors


def test_advice_on_a_process_that_ends_uses_its_last_state(program: Path) -> None:
    with _waiting(program, MALLOC_CONF="dirty_decay_ms:0") as waiting:
        advising = _advise(waiting.pid, "-d", "30", "--json")
        _until_it_follows(advising)
        assert waiting.stdin
        waiting.stdin.write("begin\n")
        time.sleep(4)
        waiting.kill()
        output, errors = advising.communicate(timeout=60)
    assert advising.returncode == 0, errors
    found = _findings(output)
    assert "immediate_purge" in found
    assert "own_call" not in found  # no process is left to change
    (process,) = json.loads(output)["processes"]
    assert process["advice_limits"][0].startswith("The process has ended")


def _advice_on(trace: Path, *, status: int = 0) -> dict[str, Any]:
    """Run `advise` on a trace without rights and without bcc."""
    done = subprocess.run(
        [*_POWERLESS, sys.executable, "-c", _WITHOUT_BCC, "--json", str(trace)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    (process,) = json.loads(done.stdout)["processes"]
    assert isinstance(process, dict)
    return process


def _fill_and_flush(server: Redis) -> None:
    server.fill(20_000, 30_000)
    server.flush()


def test_a_trace_gives_the_same_advice_as_the_live_process(tmp_path: Path) -> None:
    """The advice is equal byte for byte; a redacted or truncated trace gives advice on its rest."""
    whole, redacted = tmp_path / "whole.arrows", tmp_path / "redacted.arrows"
    plain, nameless = TraceWriter(whole), TraceWriter(redacted, change=Redactor)
    kept = HistoryStore().process()
    tees = kept, plain.tee(), nameless.tee()

    def record_all(engine: Engine, record: Record) -> None:
        for tee in tees:
            tee(engine, record)

    with (
        private_redis(MALLOC_CONF="dirty_decay_ms:0") as server,
        attached(server.pid, tee=record_all) as session,
    ):
        worker = threading.Thread(target=_fill_and_flush, args=(server,))
        worker.start()
        while worker.is_alive():
            time.sleep(0 if session.pump() else 0.01)
        session.stop()
        live = evidence_of(session.engine, time.monotonic_ns(), kept.take())
    plain.close()
    nameless.close()
    findings = [finding.as_json() for finding in advise(live)]
    expected = json.loads(json.dumps(live.snapshot.as_json() | {"advice": findings}))
    by_rule = {finding["rule"]: finding for finding in findings}
    assert by_rule["immediate_purge"]["effect"]
    assert by_rule["own_call"]["slots"]

    process = _advice_on(whole)
    assert process.pop("advice_limits") == []
    assert process == expected

    process = _advice_on(redacted)
    assert process["now"]["occupancy"] == expected["now"]["occupancy"]
    assert any("--redact" in limit for limit in process["advice_limits"])
    found = {finding["rule"]: finding for finding in process["advice"]}
    assert "immediate_purge" not in found  # dirty_decay_ms is in the environment
    assert found["own_call"]["effect"] == by_rule["own_call"]["effect"]
    assert found["own_call"]["slots"] == []

    torn = tmp_path / "torn.arrows"
    torn.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    process = _advice_on(torn, status=5)
    assert process["window"]["events"]["fault"] > 0
