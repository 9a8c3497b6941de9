# SPDX-License-Identifier: GPL-2.0-only
"""Programs that start, exec, fork and end while they are followed."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.live.actor import SLOT, Actor
from tests.live.attached import attached

_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_BASE = 0x10_0000_0000


def _attach(*arguments: str, timeout: float = 60) -> dict[str, Any]:
    """Run `ptescope attach --json`; returns the one process of its document."""
    done = subprocess.run(
        [_PTESCOPE, "attach", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=True,
    )
    # A launched program shares the test's stdout; the document is the last line.
    document = json.loads(done.stdout.splitlines()[-1])
    (process,) = document["processes"]
    assert isinstance(process, dict)
    return process


def test_a_launched_program_is_seen_from_its_first_instruction() -> None:
    """The events include the first steps of the dynamic linker and the exit."""
    found = _attach("--", "/bin/ls", "/")
    events = found["window"]["events"]
    assert found["process"]["comm"] == "ls"
    assert found["kernel"]["seed"] == "census"
    assert found["now"]["unplaced"] == 0
    assert events["exit"] == 1
    # The dynamic linker maps each library in several pieces.
    assert events["map"] > 10
    assert events["fault"] > 50


def test_a_launched_program_behaves_as_without_ptescope(tmp_path: Path) -> None:
    """The program touches and purges a known number of pages."""
    script = tmp_path / "pages.py"
    script.write_text(
        textwrap.dedent(
            """
            import mmap, os
            area = mmap.mmap(-1, 256 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            area.madvise(mmap.MADV_NOHUGEPAGE)
            for page in range(0, 256 << 20, 4096 * 16):
                area[page] = 1
            for start in range(0, 256 << 20, 1 << 20):
                area.madvise(mmap.MADV_DONTNEED, start, 1 << 20)
            os._exit(0)  # without unmapping
            """
        )
    )
    found = _attach("--", sys.executable, str(script))
    assert found["window"]["lost"] == 0
    assert found["window"]["events"]["dontneed"] == 256
    # 128 or 129 slots, which still exist at the end of the run, all empty.
    assert 128 <= found["now"]["empty"] <= 130
    assert found["policies"]["pte_ref"]["empty"] <= 1


def test_a_launched_program_has_the_environment_of_ptescope(tmp_path: Path) -> None:
    own = {"PATH": "/usr/bin:/bin", "HOME": "/", "EMPTY": "", "EQUALS": "a=b"}
    done = subprocess.run(
        [_PTESCOPE, "attach", "--report", str(tmp_path / "report"), "--", "env"],
        capture_output=True,
        text=True,
        check=True,
        env=own,
    )
    lines = done.stdout.splitlines()
    assert sorted(lines) == sorted(f"{name}={value}" for name, value in own.items())


def test_the_status_of_a_program_that_cannot_be_started() -> None:
    done = subprocess.run(
        [_PTESCOPE, "attach", "--", "/no/such/program"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert (
        done.stderr == "ptescope: /no/such/program cannot be started: No such file or directory.\n"
    )


def test_exec_while_attached_starts_a_new_address_space() -> None:
    program = subprocess.Popen(
        ["/bin/sh", "-c", "read line; exec sleep 60"], stdin=subprocess.PIPE, text=True
    )
    try:
        with attached(program.pid) as session:
            assert session.snapshot().process.comm == "sh"
            assert program.stdin
            program.stdin.write("\n")
            program.stdin.flush()
            for _ in range(200):
                session.pump()
                if session.snapshot().process.comm == "sleep":
                    break
                session.audit()
            session.audit()
            report = session.snapshot()
        assert report.process.comm == "sleep"
        assert report.window.events["exec"] == 1
        assert report.audit.pte_pages_diff == 0
        assert report.audit.empty_missing == report.audit.empty_extra == 0
    finally:
        program.kill()
        program.wait()


def test_after_fork_the_parent_is_exact_and_the_child_is_not_followed() -> None:
    program = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os,sys; sys.stdin.readline(); os.fork(); sys.stdin.readline()",
        ],
        stdin=subprocess.PIPE,
        text=True,
    )
    try:
        with attached(program.pid) as session:
            assert program.stdin
            program.stdin.write("\n")
            program.stdin.flush()
            while "fork" not in session.snapshot().window.events:
                session.pump()
            session.audit()
            report = session.snapshot()
        assert report.window.events["fork"] == 1
        assert report.audit.pte_pages_diff == report.audit.empty_missing == 0
    finally:
        program.kill()
        program.communicate()


def test_vfork_children_use_the_parents_page_tables() -> None:
    """posix_spawn: faults of the child before its exec belong to the parent."""
    program = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os,sys; sys.stdin.readline();\n"
            "for _ in range(7): os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)\n"
            "print('done', flush=True); sys.stdin.readline()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with attached(program.pid) as session:
            assert program.stdin
            assert program.stdout
            program.stdin.write("\n")
            program.stdin.flush()
            assert program.stdout.readline() == "done\n"
            session.audit()
            report = session.snapshot()
        assert "exec" not in report.window.events
        assert report.window.events["spawn"] == 7
        assert report.audit.pte_pages_diff == report.audit.empty_missing == 0
        assert report.audit.empty_extra == 0
    finally:
        program.kill()
        program.communicate()


def test_the_report_of_an_ended_target_has_its_last_state() -> None:
    actor = Actor()
    actor.map(_BASE, 8 * SLOT)
    actor.touch(_BASE, 8 * SLOT, SLOT)
    with attached(actor.pid) as session:
        for part in range(16):
            actor.advise(_BASE + part * SLOT // 2, SLOT // 2, 4)
        actor.close()
        while not session.ended:
            session.pump()
        session.stop()
        report = session.snapshot(slots=True)
    assert report.empty_slots is not None
    assert set(report.empty_slots) >= {_BASE + slot * SLOT for slot in range(8)}
    assert report.audit.runs == 0


def _followed_with_children(program: str) -> tuple[list[str], list[dict[str, Any]]]:
    """The output of a Python program, and the documents of it and its children."""
    done = subprocess.run(
        [_PTESCOPE, "attach", "-f", "--json", "--", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    *printed, report = done.stdout.splitlines()
    return printed, json.loads(report)["processes"]


_SPAWNS = """
import subprocess, sys, time
time.sleep(0.5)
subprocess.run([sys.executable, "-c", "import time; room = bytearray(40 << 21); time.sleep(1)"])
"""


def test_a_spawned_program_is_followed_like_a_forked_one() -> None:
    """subprocess uses vfork."""
    _, (parent, child) = _followed_with_children(_SPAWNS)
    assert parent["window"]["events"]["spawn"] == 1
    assert child["policies"]["none"]["peak"] > 40
    assert child["process"]["start_time"] > parent["process"]["start_time"]


_LEAVES_A_GRANDCHILD = """
import os, time
time.sleep(0.5)
reader, writer = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        room = bytearray(40 << 21)
        time.sleep(1)
        os.close(writer)
    os._exit(0)
os.close(writer)
os.read(reader, 1)
"""


def test_a_child_that_ends_at_once_leaves_its_child_to_be_followed() -> None:
    _, processes = _followed_with_children(_LEAVES_A_GRANDCHILD)
    grown = [each["policies"]["none"]["peak"] > 40 for each in processes]
    assert grown[-1]
    assert not any(grown[:-1])


_SAME_PID_TWICE = """
import os, time
def child(pages):
    pid = os.fork()
    if pid == 0:
        room = bytearray(pages << 21)
        time.sleep(1)
        os._exit(0)
    return pid
time.sleep(0.5)
first = child(4)
os.waitpid(first, 0)
open("/proc/sys/kernel/ns_last_pid", "w").write(str(first - 1))
second = child(40)
os.waitpid(second, 0)
print(first, second)
"""


def test_a_reused_pid_is_another_process() -> None:
    for _ in range(5):  # an unrelated process may take the pid
        printed, processes = _followed_with_children(_SAME_PID_TWICE)
        first, second = map(int, printed[0].split())
        if first == second:
            break
    assert first == second
    one, other = [each for each in processes if each["process"]["pid"] == first]
    assert one["process"]["start_time"] < other["process"]["start_time"]
    peaks = [each["policies"]["none"]["peak"] for each in (one, other)]
    assert 30 < peaks[1] - peaks[0] < 45, "each process has its own history"


_ENDS_EARLY = """
import os, signal, sys, time, tracer.follow.seeding
from tracer.cli import main
from tracer.process.target import Target

command, moment, pid, *more = sys.argv[1:]

def end(*_):
    os.kill(int(pid), signal.SIGKILL)
    raise ProcessLookupError(int(pid))

if moment == "named":
    Target.identify = end
elif moment == "probed":
    Target.thp_disabled = end
elif moment == "mapped":
    Target.vmas = end
else:
    tracer.follow.seeding.vm_pte_kib = end
sys.exit(main([command, "-p", pid, *more]))
"""


@pytest.mark.parametrize("moment", ["named", "probed", "mapped", "read"])
@pytest.mark.parametrize("command", ["attach", "record", "advise"])
def test_a_process_that_ends_before_it_is_read_gives_no_report(
    tmp_path: Path, command: str, moment: str
) -> None:
    """An existing trace stays."""
    place = tmp_path / "t.arrows"
    place.write_text("before")
    more = [] if command == "advise" else ["-o", str(place), "--force"]
    with subprocess.Popen(["sleep", "60"]) as program:
        early = [sys.executable, "-c", _ENDS_EARLY, command, moment, str(program.pid), *more]
        done = subprocess.run(early, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    said = done.stderr.splitlines()[-1]
    assert re.match(f"ptescope: Process {program.pid} (has just ended|ended before )", said)
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["t.arrows"]
    assert place.read_text() == "before"


def test_the_error_without_rights_names_the_missing_capability() -> None:
    """As nobody, on a process of root; it may look into root's home, where ptescope may be."""
    done = subprocess.run(
        [
            *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
            *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
            *(_PTESCOPE, "attach", "-p", "1"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert "this needs root" in done.stderr
    assert len(done.stderr.splitlines()) == 1
