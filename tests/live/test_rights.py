# SPDX-License-Identifier: GPL-2.0-only
"""What each capability of the service is for: taken away, one at a time."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_UNIT = Path(__file__).parents[2] / "tools/systemd/ptescope.service"
_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
_HOLDS_MEMORY = "import time; x = bytearray(300 << 20); print('up', flush=True); time.sleep(120)"


def _needed() -> set[str]:
    (line,) = re.findall(r"^CapabilityBoundingSet=(.*)$", _UNIT.read_text(), re.M)
    return {name.removeprefix("CAP_").lower() for name in line.split()}


@pytest.fixture(scope="module")
def somebodys() -> Iterator[int]:
    """A process of another user."""
    with subprocess.Popen(
        [*_NOBODY, "/usr/bin/python3", "-c", _HOLDS_MEMORY], stdout=subprocess.PIPE
    ) as program:
        assert program.stdout
        program.stdout.readline()
        yield program.pid
        program.kill()


def _daemon(capabilities: set[str]) -> tuple[int, list[dict[str, Any]]]:
    """Run the daemon with no more than these; returns its status and what it followed."""
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


def test_those_of_the_unit_are_enough(somebodys: int) -> None:
    status, processes = _daemon(_needed())
    assert status == 0
    (process,) = [each for each in processes if each["process"]["pid"] == somebodys]
    assert process["kernel"]["seed"] == "census"
    assert process["audit"]["empty_missing"] == process["audit"]["empty_extra"] == 0


@pytest.mark.parametrize("missing", ["bpf", "perfmon"])
def test_without_these_nothing_is_loaded(missing: str) -> None:
    # CAP_SYS_ADMIN stands for both, as it did before they were split off it.
    status, _ = _daemon(_needed() - {missing, "sys_admin"})
    assert status == 4


@pytest.mark.parametrize("missing", ["sys_ptrace", "dac_read_search"])
def test_without_these_other_users_processes_cannot_be_read(missing: str, somebodys: int) -> None:
    status, processes = _daemon(_needed() - {missing})
    assert status == 0
    assert somebodys not in _pids(processes)


def test_without_sys_admin_page_tables_are_counted(somebodys: int) -> None:
    status, processes = _daemon(_needed() - {"sys_admin"})
    assert status == 0
    (process,) = [each for each in processes if each["process"]["pid"] == somebodys]
    assert process["kernel"]["seed"] == "counted"
    assert "CAP_SYS_ADMIN" in " ".join(process["notes"])


@pytest.mark.parametrize(
    "arguments", [("attach", "--", "sleep", "1"), ("daemon", "-d", "1"), ("record", "--", "true")]
)
def test_rights_are_looked_at_before_anything_is_compiled(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Somebody without rights, who may look into root's home, where ptescope may be."""
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


def test_root_is_not_told_to_become_root(somebodys: int) -> None:
    done = subprocess.run(
        [
            *("setpriv", "--inh-caps=-all", "--bounding-set=-all"),
            *(_PTESCOPE, "attach", "-p", str(somebodys)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4
    assert "root lacks CAP_SYS_PTRACE here" in done.stderr
