# SPDX-License-Identifier: GPL-2.0-only
"""Unwritable output, invalid input, Ctrl-C: one line on stderr and a status."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.shadow.trace.traces import write_trace

PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_PRINTING = [
    ["--help"],
    ["replay", "--help"],
    ["--version"],
    ["replay", "t.arrows"],
    ["replay", "t.arrows", "--json"],
    ["replay", "t.arrows", "u.arrows"],
    ["replay", "t.arrows", "-i", "0.001"],
    ["advise", "t.arrows"],
    ["advise", "t.arrows", "--json"],
]
_WRITING = [
    ["replay", "t.arrows", "--parquet"],
    ["export", "t.arrows", "--parquet"],
    ["export", "t.arrows", "-i", "0.001", "--perfetto"],
    ["import", "perf.txt", "-o"],
]
_FAULT = "srv 7/7 [000] 1.{:09}: exceptions:page_fault_user: address=0x7000 ip=0x1 error_code=0x6\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traces")
    for name in ("t.arrows", "u.arrows"):
        write_trace(folder / name)
    (folder / "perf.txt").write_text("".join(map(_FAULT.format, range(1, 20_000))))
    return folder


def _run(folder: Path, *command: str, shell: str = '"$@"') -> subprocess.CompletedProcess[str]:
    """Run a command in a shell, which can close descriptors that Python keeps open."""
    return subprocess.run(
        ["bash", "-c", shell, "bash", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _one_line(said: str) -> bool:
    return said.startswith("ptescope: ") and said.endswith("\n") and said.count("\n") == 1


@pytest.mark.parametrize("arguments", _PRINTING, ids=" ".join)
def test_stdout_that_cannot_be_written_is_status_1(folder: Path, arguments: list[str]) -> None:
    for shell, why in (('"$@" >/dev/full', "No space left"), ('"$@" >&-', "Bad file descriptor")):
        done = _run(folder, PTESCOPE, *arguments, shell=shell)
        assert done.returncode == 1, done.stderr
        assert "Standard output cannot be written: " + why in done.stderr
        assert _one_line(done.stderr)


@pytest.mark.parametrize("arguments", [*_PRINTING, *_WRITING][::3], ids=" ".join)
def test_a_command_runs_without_stderr_and_stdin(
    folder: Path, tmp_path: Path, arguments: list[str]
) -> None:
    place = [str(tmp_path / "new")] if arguments in _WRITING else []
    whole = _run(folder, PTESCOPE, *arguments, *place)
    done = _run(folder, PTESCOPE, *arguments, *place, "--force", shell='"$@" 2>&- <&-')
    if not place:
        done = _run(folder, PTESCOPE, *arguments, shell='"$@" 2>&- <&-')
    assert (done.returncode, done.stdout) == (whole.returncode, whole.stdout) != (1, "")


def test_a_closed_pipe_is_no_error(folder: Path) -> None:
    shell = '"$@" | head -c 1; exit ${PIPESTATUS[0]}'
    done = _run(folder, PTESCOPE, "replay", "t.arrows", "--json", "--slots", shell=shell)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", _WRITING, ids=" ".join)
def test_a_full_disk_leaves_the_existing_file(
    folder: Path, tmp_path: Path, arguments: list[str]
) -> None:
    """A limit on file sizes has the same effect on the program as a full disk."""
    place = tmp_path / "there"
    place.write_text("before")
    shell = "trap '' XFSZ; ulimit -f 1; " + '"$@"'
    done = _run(folder, PTESCOPE, *arguments, str(place), "--force", shell=shell)
    assert done.returncode == 1, done.stderr
    assert f"{place} cannot be written: File too large" in done.stderr
    assert _one_line(done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert place.read_text() == "before"


@pytest.mark.parametrize("arguments", _WRITING, ids=" ".join)
@pytest.mark.parametrize("kind", ["file", "fifo", "link", "nowhere"])
def test_an_existing_output_is_refused_before_the_work(
    folder: Path, tmp_path: Path, kind: str, arguments: list[str]
) -> None:
    place = tmp_path / "there"
    if kind == "file":
        place.write_text("before")
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "link":
        place.symlink_to("/dev/null")
    else:
        place = place / "below"
    force = [] if kind == "file" else ["--force"]
    done = _run(folder, PTESCOPE, *arguments, str(place), *force)
    assert done.returncode == 2
    assert str(place) in done.stderr
    assert _one_line(done.stderr)


@pytest.mark.parametrize("command", [["replay"], ["advise"], ["export", "--parquet", "new"]])
@pytest.mark.parametrize("kind", ["a FIFO", "a socket", "a device", "a folder"])
def test_a_trace_must_be_a_regular_file(tmp_path: Path, kind: str, command: list[str]) -> None:
    place = tmp_path / "odd"
    if kind == "a FIFO":
        os.mkfifo(place)
    elif kind == "a socket":
        socket.socket(socket.AF_UNIX).bind(str(place))
    elif kind == "a folder":
        place.mkdir()
    else:
        place = Path("/dev/zero")
    done = _run(tmp_path, PTESCOPE, *command, str(place))
    assert done.returncode == 2
    expected = "There is no trace" if kind == "a folder" and command[0] != "export" else kind
    assert expected in done.stderr
    assert _one_line(done.stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("arguments", [["replay", "t.arrows", "u.arrows", "--jobs", "2"], ["-h"]])
def test_a_signal_at_any_time_gives_no_traceback(
    folder: Path, number: signal.Signals, arguments: list[str]
) -> None:
    for delay in (0.05, 0.1, 0.2, 0.3, 0.5, 0.8):
        program = subprocess.Popen(
            [PTESCOPE, *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        time.sleep(delay)
        if program.poll() is None:
            os.killpg(program.pid, number)
        _, said = program.communicate(timeout=60)
        if "init_import_site" in said:
            continue  # the signal came before Python ran a line of ours
        assert said in ("", "ptescope: interrupted\n")
        assert program.returncode in (0, 128 + number, -number)


def test_an_ignored_sigint_stays_ignored(folder: Path) -> None:
    """As in a background job of a shell script."""
    expected = _run(folder, PTESCOPE, "replay", "t.arrows", "u.arrows")
    shell = "trap '' INT; " + 'setsid "$@" --jobs 2 & sleep 0.3; kill -INT -$!; wait $!'
    done = _run(folder, PTESCOPE, "replay", "t.arrows", "u.arrows", shell=shell)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected.stdout, "")


def test_the_original_streams_stay_usable() -> None:
    """Libraries such as textual write to them."""
    program = (
        "import sys; from tracer import standard_streams; standard_streams.secure();"
        "sys.__stdout__.write('out'); sys.__stderr__.write('err'); sys.stdout.write('put')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "err")
    assert sorted(("out", "put")) == sorted((done.stdout[:3], done.stdout[3:]))
