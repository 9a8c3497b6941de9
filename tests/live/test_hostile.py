# SPDX-License-Identifier: GPL-2.0-only
"""Every command on a live process with terminal escapes in its name."""

import json
import os
import pty
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.shadow.hostile import is_harmless

pytestmark = pytest.mark.alone

_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_COMM = b"\x1b]0;[/x]\n\x9b\xff\xe2\x80\xae"
"""15 bytes: OSC, markup, a line end, C1, invalid UTF-8, a bidi override."""
_SHOWN = "\\x1b]0;[/x]\\n"
_PROGRAM = """
import ctypes, mmap, os, sys, time
area = mmap.mmap(-1, 256 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area.madvise(mmap.MADV_NOHUGEPAGE)
for at in range(0, 256 << 20, 1 << 21):
    area[at] = 1
ctypes.CDLL(None).prctl(15, ctypes.c_char_p({comm!r}))
print("ready", flush=True)
while True:
    for at in range(0, 256 << 20, 1 << 20):
        area[at] = 1
        area.madvise(mmap.MADV_DONTNEED, at, 1 << 20)
    time.sleep(0.1)
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[int]:
    """A hostile process: its name, its program's path, its settings."""
    program = tmp_path / os.fsdecode(b"\x1b[2J\xff\n") / "python"
    program.parent.mkdir()
    shutil.copy(Path(sys.executable).resolve(), program)
    child = subprocess.Popen(
        [program, "-c", _PROGRAM.format(comm=_COMM)],
        stdout=subprocess.PIPE,
        env=os.environ | {"MALLOC_CONF": "dirty_decay_ms:0,x:$(touch INJ);\x1b[31mid #"},
    )
    try:
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        yield child.pid
    finally:
        child.kill()
        child.wait()


def _run(*arguments: str) -> tuple[str, str]:
    done = subprocess.run([_PTESCOPE, *arguments], capture_output=True, timeout=120, check=False)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, err
    assert "Traceback" not in err
    assert is_harmless(out)
    assert is_harmless(err)
    return out, err


def test_commands_escape_hostile_names(process: int, tmp_path: Path) -> None:
    pid, trace = str(process), str(tmp_path / "t.arrows")
    for arguments in (
        ("attach", "-p", pid, "-d", "1", "-i", "0.5", "-o", trace),
        ("census", pid, "--slots"),
        ("census", "--all"),
        ("advise", "-p", pid, "-d", "1"),
        ("advise", "-p", pid, "-d", "1", "--detail"),
        ("replay", trace),
        ("replay", trace, "--table"),
    ):
        out, _ = _run(*arguments)
        assert _SHOWN in out, arguments
    document = json.loads(_run("attach", "-p", pid, "-d", "0.5", "--json")[0])
    assert document["processes"][0]["process"]["comm"].startswith("\x1b]0;[/x]\n")
    _run("record", "-p", pid, "-d", "0.5", "-o", str(tmp_path / "u\x1b.arrows"))
    _run("doctor")


_NONSENSE = """
import ctypes, mmap, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(*numbers):
    return libc.syscall(*(ctypes.c_ulong(number) for number in numbers))
file = os.open(sys.argv[1], os.O_RDWR)
area = mmap.mmap(-1, 8 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
print("ready", flush=True)
while True:
    for top in (-4096 % 2**64, 2**63, 2**47, 2**60):
        for length in (4096, 2**47, 2**63, -4096 % 2**64):
            for advice in (4, 8, 14, 21, 23):
                call(28, top, length, advice)  # madvise
            call(11, top, length)  # munmap
            call(25, top, length, length, 1, 0)  # mremap
            call(10, top, length, 1)  # mprotect
            call(149, top, length)  # mlock
            call(150, top, length)  # munlock
    for at in range(0, 8 << 20, 4096):
        area[at] = 1
    call(150, ctypes.addressof(ctypes.c_char.from_buffer(area)), 0)  # munlock of nothing
    # 32 TiB of a file of one page: MAP_POPULATE ends at once, and mmap does not say so.
    address = call(9, 0, 1 << 45, 1, 0x8001 | 0x4000, file, 0)
    assert address > 0
    time.sleep(0.2)
    assert call(11, address, 1 << 45) == 0
    time.sleep(0.2)
"""


def test_nonsensical_calls_and_huge_claims_do_no_harm(tmp_path: Path) -> None:
    """Any user can make such calls: they cost neither memory nor the trace."""
    page, trace = tmp_path / "page", tmp_path / "t.arrows"
    page.write_bytes(b"x" * 4096)
    child = subprocess.Popen([sys.executable, "-c", _NONSENSE, str(page)], stdout=subprocess.PIPE)
    assert child.stdout
    assert child.stdout.readline() == b"ready\n"
    try:
        done = subprocess.run(
            [_PTESCOPE, "attach", "-p", str(child.pid), "-d", "2", "-o", str(trace), "--json"],
            capture_output=True,
            timeout=120,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30)),
        )
    finally:
        child.kill()
        child.wait()
    assert done.returncode == 0, done.stderr
    live = json.loads(done.stdout)
    assert live["processes"][0]["window"]["events"]["map"] >= 1
    assert live["processes"][0]["now"]["pte_pages"] < 10_000
    assert json.loads(_run("replay", str(trace), "--json")[0]) == live


def test_the_daemon_escapes_hostile_names_in_metrics(process: int) -> None:
    daemon = subprocess.Popen(
        [
            _PTESCOPE,
            "daemon",
            "--listen",
            "127.0.0.1:19467",
            "--min-vmpte",
            "256K",
            "--json",
            "--max-cpu",
            "400",
            "--name",
            "*/x*",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        deadline, text = time.monotonic() + 120, ""
        while _SHOWN.replace("\\", "\\\\") not in text and time.monotonic() < deadline:
            time.sleep(0.5)
            try:
                with urllib.request.urlopen("http://127.0.0.1:19467/metrics", timeout=30) as page:
                    text = page.read().decode()
            except OSError:
                continue
        assert _SHOWN.replace("\\", "\\\\") in text
        assert is_harmless(text)
        names = [
            sample.labels.get("name", "")
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]
        assert any(name.startswith(_SHOWN) for name in names)
        daemon.send_signal(signal.SIGTERM)
        out, err = daemon.communicate(timeout=60)
    finally:
        daemon.kill()
        daemon.wait()
    assert is_harmless(err.decode())
    comms = [found["process"]["comm"] for found in json.loads(out)["processes"]]
    assert all(
        comm.startswith("\x1b]0;[/x]") for comm in comms
    )  # if the daemon follows the process by then


def _read(fd: int) -> bytes:
    """The output within a tenth of a second."""
    ready, _, _ = select.select([fd], [], [], 0.1)
    return os.read(fd, 65536) if ready else b""


def test_top_escapes_hostile_names(process: int) -> None:
    """On a terminal, `top` writes its own escapes but not those of the process."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS="160", LINES="40")
        os.execv(_PTESCOPE, [_PTESCOPE, "top", "-i", "0.5", "--min-vmpte", "256K"])
    written, deadline = b"", time.monotonic() + 60
    try:
        while b"\\x1b]0;[/x]" not in written and time.monotonic() < deadline:
            written += _read(fd)
        assert b"\\x1b]0;[/x]" in written
        assert b"\x1b]0;[/x]" not in written
    finally:
        os.write(fd, b"q")
        ended = time.monotonic() + 20
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            with suppress(OSError):
                _read(fd)
            if time.monotonic() > ended:
                os.kill(pid, signal.SIGKILL)
        os.close(fd)
