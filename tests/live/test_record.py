# SPDX-License-Identifier: GPL-2.0-only
"""A trace recorded as root replays for a user without any rights."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.live.actor import SLOT, Actor

_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_BASE = 0x10_0000_0000
_POWERLESS = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
_WITHOUT_BCC = """
import sys
sys.modules["bcc"] = None
from tracer.cli import main
sys.exit(main(["replay", *sys.argv[1:]]))
"""


def _run(*command: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stderr
    return done


def _document(text: str) -> dict[str, Any]:
    # A launched program shares the test's stdout; the document is the last line.
    document = json.loads(text.splitlines()[-1])
    assert isinstance(document, dict)
    return document


def test_a_replay_without_rights_or_bcc_gives_the_document_of_attach(tmp_path: Path) -> None:
    """Two processes, one of them forked, in one trace give the same document."""
    trace = tmp_path / "t.arrows"
    script = (
        "import mmap,os,time\n"
        "m=mmap.mmap(-1,64<<20,mmap.MAP_PRIVATE|mmap.MAP_ANONYMOUS)\n"
        "m.madvise(mmap.MADV_NOHUGEPAGE)\n"
        "for p in range(0,64<<20,4096): m[p]=1\n"
        "if os.fork()==0: time.sleep(1)\n"
        "for p in range(0,64<<20,1<<20): m.madvise(mmap.MADV_DONTNEED,p,1<<20)\n"
        "time.sleep(1)\n"
    )
    recorded = _run(
        *(_PTESCOPE, "attach", "-f", "--json", "--slots", "--audit", "0.5"),
        *("-o", str(trace), "--", sys.executable, "-c", script),
    )
    assert "bytes an event" in recorded.stderr
    live = _document(recorded.stdout)
    assert len(live["processes"]) == 2
    alone = _run(*_POWERLESS, sys.executable, "-c", _WITHOUT_BCC, "--json", "--slots", str(trace))
    assert _document(alone.stdout) == live


def test_a_recorder_that_is_killed_leaves_all_but_its_last_second(tmp_path: Path) -> None:
    trace = tmp_path / "t.arrows"
    actor = Actor()
    recorder = subprocess.Popen(
        [_PTESCOPE, "record", "-o", str(trace), "-p", str(actor.pid)], stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 60
        while (not trace.exists() or trace.stat().st_size < 2000) and time.monotonic() < deadline:
            time.sleep(0.05)
        actor.map(_BASE, 64 * SLOT)
        actor.advise(_BASE, 64 * SLOT, 15)
        actor.touch(_BASE, 64 * SLOT)
        time.sleep(2)
        recorder.send_signal(signal.SIGKILL)
        recorder.wait()
    finally:
        actor.close()
    done = _run(_PTESCOPE, "replay", "--json", str(trace), status=5)
    assert "it has no trailer" in done.stderr
    (process,) = _document(done.stdout)["processes"]
    assert process["kernel"]["seed"] == "census"
    assert process["window"]["events"]["fault"] >= 64 * 512
    assert process["now"]["refs"] >= 64 * 512


def test_record_says_what_it_wrote_and_overwrites_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "t.arrows"
    done = _run(_PTESCOPE, "record", "-o", str(trace), "--", "/bin/true")
    engine, wrote = done.stderr.splitlines()
    assert re.fullmatch(r"ptescope: following true \(pid \d+\); Ctrl-C ends it", engine)
    assert wrote.startswith(f"ptescope: {trace}: ")
    assert trace.stat().st_mode & 0o777 == 0o600
    before = trace.read_bytes()
    again = _run(_PTESCOPE, "record", "-o", str(trace), "--", "/bin/true", status=2)
    assert again.stderr == (f"ptescope: {trace} exists already (--force replaces it).\n")
    assert trace.read_bytes() == before


def test_a_report_in_a_file_does_not_contain_the_output_of_the_program(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = (_PTESCOPE, "attach", "--json", "--report", str(report))
    done = _run(*command, "--", "/bin/echo", "of the program")
    assert done.stdout == "of the program\n"
    assert report.stat().st_mode & 0o777 == 0o600
    assert json.loads(report.read_text())["processes"][0]["process"]["comm"] == "echo"
    before = report.read_bytes()
    assert "--force replaces it" in _run(*command, "--", "true", status=2).stderr
    assert "cannot be started" in _run(*command, "--force", "--", "/no", status=2).stderr
    assert report.read_bytes() == before
    _run(*command, "--force", "--", "/bin/true")
    assert json.loads(report.read_text())["processes"][0]["process"]["comm"] == "true"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_redacted_trace_has_no_names(tmp_path: Path) -> None:
    trace = tmp_path / "t.arrows"
    secret = "a-secret-of-the-environment"
    os.environ["MALLOC_ARENA_MAX"] = secret
    try:
        _run(
            *(_PTESCOPE, "record", "-o", str(trace), "--redact"),
            *("--", "/bin/sleep", "0.5"),
        )
    finally:
        del os.environ["MALLOC_ARENA_MAX"]
    found = _run(_PTESCOPE, "replay", "--json", "--slots", str(trace)).stdout
    assert secret not in found
    assert "/usr/" not in found
    assert _document(found)["processes"][0]["process"]["comm"] == "sleep"


def test_a_full_disk_ends_a_recording(tmp_path: Path) -> None:
    """The trace is on a file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    _run("mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk))
    actor = Actor()
    try:
        actor.map(_BASE, 256 * SLOT)
        actor.advise(_BASE, 256 * SLOT, 15)
        recorder = subprocess.Popen(
            [_PTESCOPE, "record", "-o", str(disk / "t.arrows"), "-p", str(actor.pid)],
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 60
        while not (disk / "t.arrows").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        actor.touch(_BASE, 256 * SLOT)
        _, said = recorder.communicate(timeout=60)
        assert recorder.returncode == 1
        assert "could not be written to its end (No space left on device)" in said
        replayed = _run(_PTESCOPE, "replay", "--json", str(disk / "t.arrows"), status=5)
        assert "no trailer" in replayed.stderr
        assert _document(replayed.stdout)["processes"][0]["kernel"]["seed"] == "census"
    finally:
        actor.close()
        _run("umount", str(disk))
