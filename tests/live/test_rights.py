# SPDX-License-Identifier: GPL-2.0-only
"""The service without each of its capabilities, one at a time."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tracer.daemon.service import service_file

_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
_HOLDS_MEMORY = "import time; x = bytearray(300 << 20); print('up', flush=True); time.sleep(120)"


def _needed() -> set[str]:
    (line,) = re.findall(r"^CapabilityBoundingSet=(.*)$", service_file("unit"), re.M)
    return {name.removeprefix("CAP_").lower() for name in line.split()}


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


def _daemon(capabilities: set[str]) -> tuple[int, list[dict[str, Any]]]:
    """Run the daemon with these capabilities only; returns its status and documents."""
    kept = "".join(f",+{name}" for name in sorted(capabilities))
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
    status, processes = _daemon(_needed())
    assert status == 0
    (process,) = [each for each in processes if each["process"]["pid"] == other_users_pid]
    assert process["kernel"]["seed"] == "census"
    assert process["audit"]["empty_missing"] == process["audit"]["empty_extra"] == 0


@pytest.mark.parametrize("missing", ["bpf", "perfmon"])
def test_without_bpf_and_perfmon_the_daemon_ends_with_status_4(missing: str) -> None:
    # CAP_SYS_ADMIN implies both, which were once parts of it.
    status, _ = _daemon(_needed() - {missing, "sys_admin"})
    assert status == 4


@pytest.mark.parametrize("missing", ["sys_ptrace", "dac_read_search"])
def test_without_ptrace_or_read_rights_other_users_processes_are_not_followed(
    missing: str, other_users_pid: int
) -> None:
    status, processes = _daemon(_needed() - {missing})
    assert status == 0
    assert other_users_pid not in _pids(processes)


def test_without_sys_admin_page_tables_are_counted(other_users_pid: int) -> None:
    status, processes = _daemon(_needed() - {"sys_admin"})
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
