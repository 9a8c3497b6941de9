# SPDX-License-Identifier: GPL-2.0-only
"""The service as its unit confines it, and without each of its capabilities, one at a time."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.confined import capabilities, refused_calls

_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_CONFINED = [sys.executable, "-m", "tests.live.confined"]
_WHAT_IS_REFUSED = """
import ctypes, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
print(libc.ptrace(0, 0, 0, 0), ctypes.get_errno())
try:
    mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)
except PermissionError:
    print("no code")
"""
_WITH_TRACEFS = [
    *("unshare", "--mount", "sh", "-c"),
    'mountpoint -q /sys/kernel/tracing || mount -t tracefs none /sys/kernel/tracing; exec "$@"',
    "sh",
]
"""The unit wants sys-kernel-tracing.mount, because the service may not mount anything itself."""
_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
_HOLDS_MEMORY = "import time; x = bytearray(300 << 20); print('up', flush=True); time.sleep(120)"


@pytest.fixture(scope="module")
def other_users_pid() -> Iterator[int]:
    """The pid of a process of another user."""
    with subprocess.Popen(
        [*_NOBODY, "/usr/bin/python3", "-c", _HOLDS_MEMORY], stdout=subprocess.PIPE
    ) as program:
        assert program.stdout
        program.stdout.readline()
        yield program.pid
        program.kill()


def _daemon(kept_capabilities: set[str]) -> tuple[int, list[dict[str, Any]]]:
    """Run the daemon with these capabilities only; returns its status and documents."""
    kept = "".join(f",+{name}" for name in sorted(kept_capabilities))
    done = subprocess.run(
        [
            *("setpriv", "--no-new-privs", "--inh-caps=-all", f"--bounding-set=-all{kept}"),
            *(_PTESCOPE, "daemon", "--listen", "127.0.0.1:0", "-d", "4", "--json"),
            *("--name", "python3", "--min-vmpte", "256K"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)["processes"] if done.stdout else []


def _pids(processes: list[dict[str, Any]]) -> set[int]:
    return {process["process"]["pid"] for process in processes}


def test_the_capabilities_of_the_unit_are_enough(other_users_pid: int) -> None:
    status, processes = _daemon(capabilities())
    assert status == 0
    (process,) = [each for each in processes if each["process"]["pid"] == other_users_pid]
    assert process["kernel"]["seed"] == "census"
    assert process["audit"]["empty_missing"] == process["audit"]["empty_extra"] == 0


def _said(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_confined_as_by_the_unit_every_source_delivers_its_events() -> None:
    """Each call that the self-test makes is allowed, so doctor finds the same."""

    def sources(*command: str) -> list[str]:
        said = _said(*_WITH_TRACEFS, *command, _PTESCOPE, "doctor")
        return [line for line in said if line.startswith(" ")]

    assert sources(*_CONFINED) == sources() != []


def test_the_unit_refuses_ptrace_and_memory_for_new_code() -> None:
    code, *rest = _said(*_CONFINED, sys.executable, "-c", _WHAT_IS_REFUSED)
    assert code == f"-1 {errno.EPERM}"
    release = [int(number) for number in re.findall(r"\d+", os.uname().release)[:2]]
    assert rest == (["no code"] if release >= [6, 3] else [])
    assert {"ptrace", "pidfd_getfd", "chown", "setuid", "kexec_load"} <= refused_calls()
    assert not {"bpf", "perf_event_open", "mbind"} & refused_calls()


def test_confined_as_by_the_unit_the_daemon_follows(other_users_pid: int) -> None:
    options = ("--listen", "127.0.0.1:0", "-d", "4", "--name", "python3", "--min-vmpte", "256K")
    said = _said(*_CONFINED, _PTESCOPE, "daemon", "--json", *options)
    (process,) = [
        each
        for each in json.loads("".join(said))["processes"]
        if each["process"]["pid"] == other_users_pid
    ]
    assert process["kernel"]["seed"] == "census"
    assert process["audit"]["empty_missing"] == process["audit"]["empty_extra"] == 0


@pytest.mark.parametrize("missing", ["bpf", "perfmon"])
def test_without_bpf_and_perfmon_the_daemon_ends_with_status_4(missing: str) -> None:
    # CAP_SYS_ADMIN implies both, which were once parts of it.
    status, _ = _daemon(capabilities() - {missing, "sys_admin"})
    assert status == 4


@pytest.mark.parametrize("missing", ["sys_ptrace", "dac_read_search"])
def test_without_ptrace_or_read_rights_other_users_processes_are_not_followed(
    missing: str, other_users_pid: int
) -> None:
    status, processes = _daemon(capabilities() - {missing})
    assert status == 0
    assert other_users_pid not in _pids(processes)


def test_without_sys_admin_page_tables_are_counted(other_users_pid: int) -> None:
    status, processes = _daemon(capabilities() - {"sys_admin"})
    assert status == 0
    (process,) = [each for each in processes if each["process"]["pid"] == other_users_pid]
    assert process["kernel"]["seed"] == "counted"
    assert "CAP_SYS_ADMIN" in " ".join(process["notes"])


@pytest.mark.parametrize(
    "arguments", [("attach", "--", "sleep", "1"), ("daemon", "-d", "1"), ("record", "--", "true")]
)
def test_rights_are_checked_before_anything_is_compiled(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """The user has no rights but may read root's home, where ptescope may be installed."""
    done = subprocess.run(
        [
            *(*_NOBODY, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
            *(_PTESCOPE, *arguments),
        ],
        cwd="/tmp",
        env=os.environ | {"PTESCOPE_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    assert "this needs root, or CAP_BPF and CAP_PERFMON" in done.stderr
    assert "compiling" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_message_to_root_names_the_missing_capability(other_users_pid: int) -> None:
    done = subprocess.run(
        [
            *("setpriv", "--inh-caps=-all", "--bounding-set=-all"),
            *(_PTESCOPE, "attach", "-p", str(other_users_pid)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4
    assert "root lacks CAP_SYS_PTRACE here" in done.stderr
