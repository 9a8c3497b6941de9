# SPDX-License-Identifier: GPL-2.0-only
"""Programs that wait for a line, do fixed work, and print "done": how they start and rest."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from ctypes.util import find_library
from importlib.metadata import version
from pathlib import Path

import psutil

from shadow.errors import UnsupportedHostError
from tools.corpus import CORPUS
from tools.fetch import fetch

__all__ = (
    "Load",
    "Start",
    "await_idle",
    "churn",
    "database",
    "frames",
    "objects",
    "prepare_programs",
    "reclaimed",
    "settle",
)

_CHURN = Path(__file__).parent.parent / "workloads" / "churn.c"
_LOOK = Path(__file__).parent / "look.c"
_THREADS, _ROUNDS = 2, 60
_CGROUP = Path("/sys/fs/cgroup")
_QUIET_SECONDS, _MOST_SECONDS, _POLL_SECONDS = 5.0, 90.0, 0.5
_LITTLE = 256 << 10
_BUSY = 0.2
"""A process that uses less of a processor is idle."""
_PIECE = "32M"

Load = Callable[[], None]
"""The load: returns when it is over."""
Start = Callable[[Path], AbstractContextManager[tuple[int, Load]]]
"""Starts a program, given the folder of built ones; gives its pid and its load."""


def _polars_for_any_cpu() -> str:
    """The build of polars that does without AVX2, which these guests do not have."""
    return f"polars-runtime-compat=={version('polars')}"


def prepare_programs(folder: Path) -> None:
    """Build and fetch what the programs need, because a guest takes long and has no network.

    Raises:
        UnsupportedHostError: a package cannot be fetched.
    """
    for source in (_CHURN, _LOOK):
        command = ["gcc", "-O1", "-pthread", "-o", str(folder / source.stem), str(source)]
        subprocess.run(command, check=True)
    package = _polars_for_any_cpu()
    try:
        fetch(package)
    except subprocess.CalledProcessError as error:
        raise UnsupportedHostError(
            f"pip cannot fetch {package}. The guests need it to run polars; check the network."
        ) from error


def await_idle(pid: int) -> None:
    """Wait until a program has loaded and waits for its load."""
    process = psutil.Process(pid)
    used, before = sum(process.cpu_times()[:2]), -_BUSY
    while used - before >= _BUSY:
        time.sleep(1)
        used, before = sum(process.cpu_times()[:2]), used


def settle(pid: int) -> None:
    """Wait until the allocator of a process has returned what it holds back for a while.

    That is over when its resident memory has not shrunk for some seconds.
    """
    process = psutil.Process(pid)
    deadline = time.monotonic() + _MOST_SECONDS
    lowest, since = process.memory_info().rss, time.monotonic()
    while time.monotonic() < min(deadline, since + _QUIET_SECONDS):
        time.sleep(_POLL_SECONDS)
        resident = process.memory_info().rss
        if resident < lowest - _LITTLE:
            lowest, since = resident, time.monotonic()


@contextmanager
def _gated(command: list[str], environment: dict[str, str]) -> Iterator[tuple[int, Load]]:
    """A program that waits for a line, works, prints "done", and waits for another line."""
    program = subprocess.Popen(
        command,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdin
    assert program.stdout
    go, said = program.stdin, program.stdout

    def load() -> None:
        go.write("\n")
        go.flush()
        if said.readline() != "done\n":
            raise RuntimeError(f"{' '.join(command)} failed")
        settle(program.pid)

    try:
        yield program.pid, load
    finally:
        program.kill()
        program.wait()


def _python(module: str, *arguments: object, **environment: str) -> Start:
    command = [sys.executable, "-m", f"tools.workloads.{module}", *map(str, arguments)]
    return lambda _folder: _gated(command, environment)


def churn(allocator: str = "", **environment: str) -> Start:
    """Threads that allocate and free: see tools/workloads/churn.c."""

    def start(folder: Path) -> AbstractContextManager[tuple[int, Load]]:
        command = [str(folder / "churn"), str(_THREADS), "0", str(_ROUNDS)]
        if not allocator:
            return _gated(command, environment)
        found = find_library(allocator)
        if found is None:  # the dynamic linker ignores a library to preload that is missing
            raise UnsupportedHostError(f"lib{allocator} is missing; install its package.")
        return _gated(command, environment | {"LD_PRELOAD": found})

    return start


def objects(rounds: int, *arguments: str, **environment: str) -> Start:
    """Objects of Python: see tools/workloads/objects.py."""
    return _python("objects", rounds, *arguments, **environment)


def frames(rows: int, rounds: int) -> Start:
    """Joins, groups and sorts of polars: see tools/workloads/frames.py."""
    path = str(CORPUS / _polars_for_any_cpu())
    return _python("frames", 3600, rows, rounds, PYTHONPATH=path, POLARS_FORCE_PKG="compat")


def database(rounds: int) -> Start:
    """SQLite that maps its database: see tools/workloads/database.py."""

    @contextmanager
    def start(built: Path) -> Iterator[tuple[int, Load]]:
        with (
            tempfile.TemporaryDirectory(dir="/dev/shm") as folder,
            _python("database", folder, rounds)(built) as running,
        ):
            yield running

    return start


def reclaimed(start: Start) -> Start:
    """The same program, and the kernel reclaims what it can of its memory after the work."""

    @contextmanager
    def started(built: Path) -> Iterator[tuple[int, Load]]:
        with start(built) as (pid, work):
            (_CGROUP / "cgroup.subtree_control").write_text("+memory")
            group = _CGROUP / f"program-{pid}"
            group.mkdir()
            (group / "cgroup.procs").write_text(str(pid))

            def load() -> None:
                work()
                with suppress(OSError):  # until the kernel finds no more
                    while True:
                        (group / "memory.reclaim").write_text(_PIECE)
                        time.sleep(_POLL_SECONDS)  # for ptescope, on the same processor
                settle(pid)

            yield pid, load

    return started
