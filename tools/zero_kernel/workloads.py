# SPDX-License-Identifier: GPL-2.0-only
"""The programs that run on both kernels: the same work each time, however long it takes."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

from shadow.errors import UnsupportedHostError
from tools.workloads.redis import Redis, private_redis

__all__ = ("WORKLOADS", "Workload", "build_programs")

_CHURN = Path(__file__).parent.parent / "workloads" / "churn.c"
_LOOK = Path(__file__).parent / "look.c"
_THREADS, _ROUNDS = 2, 60
_DECAY = 0.5
"""jemalloc returns dirty pages over this time, seconds."""
_CGROUP = Path("/sys/fs/cgroup")

Load = Callable[[], None]
"""The load: returns when it is over."""
Start = Callable[[Path], AbstractContextManager[tuple[int, Load]]]
"""Starts a program, given the folder of built ones; gives its pid and its load."""


@dataclass(frozen=True)
class Workload:
    """A program with a fixed load.

    Attributes:
        name: what runs.
        start: starts it.
    """

    name: str
    start: Start


def build_programs(folder: Path) -> None:
    """Build the programs in C, on the host, because a guest would take long."""
    for source in (_CHURN, _LOOK):
        command = ["gcc", "-O1", "-pthread", "-o", str(folder / source.stem), str(source)]
        subprocess.run(command, check=True)


def _rest() -> None:
    """Wait until jemalloc has returned what it holds back."""
    time.sleep(4 * _DECAY)


def _fill_and_flush(redis: Redis) -> None:
    redis.fill(200_000, 400)
    _rest()
    redis.flush()
    _rest()
    redis.fill(40_000, 1500, "second")
    redis.delete_most(40_000, 50, "second")
    _rest()
    redis.fill(20_000, 300, "third")
    _rest()


def _redis(work: Callable[[Redis], None], settings: str) -> Start:
    @contextmanager
    def start(_folder: Path) -> Iterator[tuple[int, Load]]:
        with private_redis(MALLOC_CONF=settings) as redis:
            yield redis.pid, lambda: work(redis)

    return start


def _free_then_reclaim(redis: Redis) -> None:
    """FLUSHALL with MADV_FREE; then the kernel reclaims what the cgroup of the server holds."""
    group = _CGROUP / f"redis-{redis.pid}"
    (_CGROUP / "cgroup.subtree_control").write_text("+memory")
    group.mkdir()
    (group / "cgroup.procs").write_text(str(redis.pid))
    redis.fill(200_000, 400)
    redis.flush()
    _rest()
    with suppress(OSError):  # there may be less to reclaim
        (group / "memory.reclaim").write_text("400M")
    _rest()


@contextmanager
def _lines(command: list[str], **environment: str) -> Iterator[tuple[int, Load]]:
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

    def load() -> None:
        assert program.stdin
        assert program.stdout
        program.stdin.write("\n")
        program.stdin.flush()
        program.stdout.readline()
        time.sleep(4 * _DECAY)

    try:
        yield program.pid, load
    finally:
        program.kill()
        program.wait()


def _churn(allocator: str = "", **environment: str) -> Start:
    def start(folder: Path) -> AbstractContextManager[tuple[int, Load]]:
        command = [str(folder / "churn"), str(_THREADS), "0", str(_ROUNDS)]
        if allocator:
            found = find_library(allocator)
            if found is None:  # the dynamic linker ignores a library to preload that is missing
                raise UnsupportedHostError(f"lib{allocator} is missing; install its package.")
            environment["LD_PRELOAD"] = found
        return _lines(command, **environment)

    return start


def _polars(_folder: Path) -> AbstractContextManager[tuple[int, Load]]:
    return _lines([sys.executable, "-m", "tools.zero_kernel.frames"])


_JEMALLOC = f"dirty_decay_ms:{_DECAY * 1000:.0f}"
WORKLOADS = (
    Workload("Redis, fill and flush", _redis(_fill_and_flush, _JEMALLOC)),
    Workload("C churn on jemalloc", _churn("jemalloc", MALLOC_CONF=_JEMALLOC)),
    Workload("polars", _polars),
    Workload("C churn on glibc", _churn()),
    Workload(
        "Redis, FREE then reclaim", _redis(_free_then_reclaim, f"{_JEMALLOC},muzzy_decay_ms:-1")
    ),
)


def in_thread(load: Load) -> Callable[[], bool]:
    """Start a load in a thread; returns whether it is over, and raises what it raised."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            load()
        except BaseException as error:
            failed.append(error)

    worker = threading.Thread(target=run)
    worker.start()

    def over() -> bool:
        if worker.is_alive():
            return False
        if failed:
            raise failed[0]
        return True

    return over
