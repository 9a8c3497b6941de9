# SPDX-License-Identifier: GPL-2.0-only
"""The programs that run on both kernels: the same work each time, however long it takes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.workloads.redis import Redis, private_redis
from tools.zero_kernel.programs import (
    Load,
    Start,
    churn,
    database,
    frames,
    objects,
    reclaimed,
    settle,
)

__all__ = ("WORKLOADS", "Workload", "in_thread")


@dataclass(frozen=True)
class Workload:
    """A program with a fixed load.

    Attributes:
        name: what runs.
        start: starts it.
    """

    name: str
    start: Start


def _fill_and_flush(redis: Redis) -> None:
    redis.fill(200_000, 400)
    settle(redis.pid)
    redis.flush()
    settle(redis.pid)
    redis.fill(40_000, 1500, "second")
    redis.delete_most(40_000, 50, "second")
    settle(redis.pid)
    redis.fill(20_000, 300, "third")
    redis.flush()
    settle(redis.pid)


def _fill_and_delete(redis: Redis) -> None:
    """Without FLUSHALL, after which Redis has jemalloc purge all arenas with MADV_DONTNEED."""
    redis.fill(200_000, 400)
    redis.delete_most(200_000, 2000)
    settle(redis.pid)


def _redis(work: Callable[[Redis], None], settings: str) -> Start:
    @contextmanager
    def start(_folder: Path) -> Iterator[tuple[int, Load]]:
        with private_redis(MALLOC_CONF=settings) as redis:
            yield redis.pid, lambda: work(redis)

    return start


_JEMALLOC = "dirty_decay_ms:500"
"""jemalloc returns unused pages over this time."""
_MUZZY = f"{_JEMALLOC},muzzy_decay_ms:-1"
"""It does so with MADV_FREE, and never calls MADV_DONTNEED for them."""
WORKLOADS = (
    Workload("Redis, fill and flush", _redis(_fill_and_flush, _JEMALLOC)),
    Workload("C churn on jemalloc", churn("jemalloc", MALLOC_CONF=_JEMALLOC)),
    Workload("polars", frames(100_000, 6)),
    Workload("C churn on glibc", churn()),
    Workload("Python on glibc, malloc_trim", objects(6, "trim", PYTHONMALLOC="malloc")),
    Workload("Python, its own arenas", objects(6)),
    Workload("Redis, FREE then reclaim", reclaimed(_redis(_fill_and_delete, _MUZZY))),
    Workload("C churn, FREE then reclaim", reclaimed(churn("jemalloc", MALLOC_CONF=_MUZZY))),
    Workload("SQLite, VACUUM of a mapped file", database(2)),
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
