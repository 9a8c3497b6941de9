# SPDX-License-Identifier: GPL-2.0-only
"""The programs of the accuracy suite: how to start each, and when its load is over."""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

from tools.workloads.redis import Redis, private_redis

__all__ = ("CASES", "SuiteCase", "Running")

_THP = Path("/sys/kernel/mm/transparent_hugepage")
_CHURN = Path(__file__).parent.parent / "workloads" / "churn.c"
_THREADS = 4
_KEYS_PER_PAUSE = 4
"""BGSAVE pauses briefly after this number of keys, so that the child lives for some seconds."""


@dataclass(frozen=True)
class Running:
    """A program under load: its pid, and whether the load is over."""

    pid: int
    done: Callable[[], bool]


Start = Callable[[float], AbstractContextManager[Running]]


@dataclass(frozen=True)
class SuiteCase:
    """One row of the suite.

    Attributes:
        name: what runs.
        start: starts it, for a given number of seconds of load.
        forks: whether to follow its children.
    """

    name: str
    start: Start
    forks: bool = False


@contextmanager
def _until_done(command: list[str], **environment: str) -> Iterator[Running]:
    """A program that prints "done" when its load is over and then waits for a line."""
    program = subprocess.Popen(
        command, env=os.environ | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    over = threading.Event()

    def listen() -> None:
        assert program.stdout
        program.stdout.readline()
        over.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield Running(program.pid, over.is_set)
    finally:
        program.kill()
        program.wait()
        listener.join()


def _python(module: str, *arguments: str) -> Start:
    def start(seconds: float) -> AbstractContextManager[Running]:
        return _until_done(
            [sys.executable, "-m", f"tools.workloads.{module}", *arguments, f"{seconds:.0f}"]
        )

    return start


def _library(name: str) -> str:
    """The file of a shared library; its version differs between releases of Debian."""
    found = find_library(name)
    if not found:  # the dynamic linker ignores a library to preload that is missing
        raise SystemExit(f"lib{name} is not installed: run tools/accuracy, which installs it.")
    return found


def _churn(allocator: str = "", **environment: str) -> Start:
    """The multi-threaded C program, on this allocator's library."""

    @contextmanager
    def start(seconds: float) -> Iterator[Running]:
        with tempfile.TemporaryDirectory() as folder:
            program = str(Path(folder) / "churn")
            subprocess.run(["gcc", "-O1", "-pthread", "-o", program, str(_CHURN)], check=True)
            command = [program, str(_THREADS), f"{seconds:.0f}"]
            if allocator:
                environment["LD_PRELOAD"] = _library(allocator)
            with _until_done(command, **environment) as running:
                yield running

    return start


@contextmanager
def _with_settings(settings: dict[Path, str]) -> Iterator[None]:
    """Change kernel settings in this block, and restore them afterwards."""
    before = {path: path.read_text().split("[")[1].split("]")[0] for path in settings}
    try:
        for path, value in settings.items():
            path.write_text(value)
        yield
    finally:
        for path, value in before.items():
            path.write_text(value)


def _huge(start: Start, sizes: dict[str, str]) -> Start:
    """The same program, with (multi-size) THP enabled on the whole host meanwhile."""

    @contextmanager
    def wrapped(seconds: float) -> Iterator[Running]:
        settings = {_THP / name / "enabled": value for name, value in sizes.items()}
        with _with_settings(settings), start(seconds) as running:
            yield running

    return wrapped


def _redis(work: Callable[[Redis, Callable[[], bool]], None]) -> Start:
    @contextmanager
    def start(seconds: float) -> Iterator[Running]:
        over, late = threading.Event(), threading.Event()
        with private_redis() as server:

            def load() -> None:
                try:
                    work(server, late.is_set)
                finally:
                    over.set()

            timer = threading.Timer(seconds, late.set)
            worker = threading.Thread(target=load)
            timer.start()
            worker.start()
            try:
                yield Running(server.pid, over.is_set)
            finally:
                late.set()
                timer.cancel()
                worker.join()

    return start


def _fill_and_flush(redis: Redis, late: Callable[[], bool]) -> None:
    turn = 0
    while not late():
        redis.fill(150_000, 100 + 200 * (turn % 5), f"turn{turn}")
        if turn % 3 == 2:
            redis.flush()
        else:
            redis.delete_most(150_000, 40, f"turn{turn}")
        turn += 1


def _save_and_write(redis: Redis, late: Callable[[], bool]) -> None:
    """BGSAVE forks; both processes then write to shared pages."""
    redis.fill(200_000, 400)
    redis.command("CONFIG", "SET", "rdb-key-save-delay", -_KEYS_PER_PAUSE)
    turn = 0
    while not late():
        if "rdb_bgsave_in_progress:0" in redis.command("INFO", "persistence"):
            redis.command("BGSAVE")
        redis.fill(20_000, 400, f"turn{turn}")
        redis.delete_most(20_000, 10, f"turn{turn}")
        turn += 1


CASES = (
    SuiteCase("redis, fill and flush", _redis(_fill_and_flush)),
    SuiteCase("redis, BGSAVE, both sides", _redis(_save_and_write), forks=True),
    SuiteCase("polars", _python("frames")),
    SuiteCase("C churn on jemalloc", _churn("jemalloc", MALLOC_CONF="background_thread:true")),
    SuiteCase("C churn on tcmalloc", _churn("tcmalloc", TCMALLOC_RELEASE_RATE="10")),
    SuiteCase("C churn on mimalloc", _churn("mimalloc")),
    SuiteCase("C churn on glibc", _churn()),
    SuiteCase("C churn, glibc, THP always", _huge(_churn(), {".": "always"})),
    SuiteCase(
        "C churn, glibc, mTHP 64K", _huge(_churn(), {".": "never", "hugepages-64kB": "always"})
    ),
    SuiteCase("FREE, PAGEOUT, DONTNEED", _python("advice")),
    SuiteCase("file mappings, read", _python("reader", "/usr/lib")),
)
