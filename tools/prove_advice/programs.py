# SPDX-License-Identifier: GPL-2.0-only
"""The programs that advice is tried on: how to start, load and end each."""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tools.workloads.postgres import private_postgres
from tools.workloads.redis import Redis, private_redis

__all__ = (
    "Program",
    "Start",
    "churn",
    "cover",
    "phase",
    "polars",
    "postgres",
    "prefork",
    "redis",
    "shared",
)

_RESERVED = Path("/proc/sys/vm/nr_hugepages")
_WORKLOADS = Path(__file__).parent.parent / "workloads"


class Program:
    """A running program.

    Args:
        pid: its process.
        begin: starts its work.
        done: set when its work is over.
        send: sends a line to the program.
    """

    def __init__(
        self,
        pid: int,
        begin: Callable[[], None],
        done: threading.Event,
        send: Callable[[str], None],
    ) -> None:
        self.pid, self.begin, self.done, self.send = pid, begin, done, send

    def family(self) -> list[int]:
        """The process and those that it has forked."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [self.pid, *map(int, children.split())]


Start = Callable[[dict[str, str]], AbstractContextManager[Program]]
"""Starts a program in a given environment."""


@contextmanager
def _piped(command: list[str], environment: dict[str, str]) -> Iterator[Program]:
    """A program that waits for a line, works, and prints "done"."""
    process = subprocess.Popen(
        command,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    done = threading.Event()

    def send(line: str) -> None:
        assert process.stdin
        process.stdin.write(f"{line}\n")

    def listen() -> None:
        assert process.stdout
        for line in process.stdout:
            if line == "done\n":
                done.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield Program(process.pid, lambda: send("begin"), done, send)
    finally:
        process.kill()
        process.wait()
        listener.join()


@contextmanager
def _compiled(source: str, arguments: list[str], env: dict[str, str]) -> Iterator[Program]:
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/{source}"
        code = _WORKLOADS / f"{source}.c"
        subprocess.run(["gcc", "-O1", "-pthread", "-o", program, code], check=True)
        with _piped([program, *arguments], env) as running:
            yield running


def phase(*arguments: object) -> Start:
    """Threads that fill memory and free it: see tools/workloads/phase.c."""
    return lambda env: _compiled("phase", [str(word) for word in arguments], env)


def churn(threads: int, rounds: int) -> Start:
    """Threads that constantly allocate and free: see tools/workloads/churn.c."""
    return lambda env: _compiled("churn", [str(threads), "0", str(rounds)], env)


def _python(module: str, arguments: list[str]) -> Start:
    command = [sys.executable, "-m", f"tools.workloads.{module}", *arguments]
    return lambda env: _piped(command, env)


def polars(rows: int, rounds: int) -> Start:
    """Joins, groups and sorts: see tools/workloads/frames.py."""
    return _python("frames", ["600", str(rows), str(rounds)])


def cover(gib: int) -> Start:
    """The RFC's own example; PURGE_KIB in the environment is the size of its calls."""
    return lambda env: _python("cover", [str(gib), env["PURGE_KIB"]])(env)


@contextmanager
def _huge_pages(number: int) -> Iterator[None]:
    """Let the kernel keep so many free huge pages for the block, and give them back.

    Raises:
        RuntimeError: memory does not allow it.
    """
    before = int(_RESERVED.read_text())
    _RESERVED.write_text(str(before + number))
    try:
        if int(_RESERVED.read_text()) < before + number:
            raise RuntimeError(f"the kernel does not find memory for {number} huge pages")
        yield
    finally:
        _RESERVED.write_text(str(before))


def _sharing(module: str, mib: int, *arguments: str) -> Start:
    """A user of shared memory; HUGETLB=1 in the environment gives it huge pages."""

    @contextmanager
    def start(environment: dict[str, str]) -> Iterator[Program]:
        pages = mib // 2 if environment.get("HUGETLB") == "1" else 0
        plain = _python(module, [str(mib), *arguments])
        with _huge_pages(pages), plain(environment) as program:
            yield program

    return start


def shared(mib: int, how: str) -> Start:
    """A user of a memfd: see tools/workloads/shared.py."""
    return _sharing("shared", mib, how)


def prefork(mib: int) -> Start:
    """A prefork server; WORKERS in the environment is their number."""
    return _sharing("prefork", mib)


def postgres(mib: int) -> Start:
    """A backend that reads a table of so many MiB; huge_pages in the environment is the setting."""

    @contextmanager
    def start(environment: dict[str, str]) -> Iterator[Program]:
        done, setting = threading.Event(), environment["huge_pages"]
        with (
            _huge_pages(mib if setting == "on" else 0),
            private_postgres(shared_buffers=f"{mib * 3 // 2}MB", huge_pages=setting) as server,
            server.session() as maker,
            server.session() as reader,
        ):

            def ask(psql: subprocess.Popen[str], query: str) -> str:
                assert psql.stdin
                assert psql.stdout
                psql.stdin.write(f"{query}; SELECT 'asked';\n")
                return "".join(iter(psql.stdout.readline, "asked\n"))

            ask(maker, "CREATE UNLOGGED TABLE filled (filler text)")
            ask(maker, "ALTER TABLE filled ALTER filler SET STORAGE PLAIN")  # a row takes a block
            ask(
                maker,
                f"INSERT INTO filled SELECT repeat('x', 7000) FROM generate_series(1, {mib * 128})",
            )
            ask(reader, "SET max_parallel_workers_per_gather = 0")
            pid = int(ask(reader, "SELECT pg_backend_pid()"))

            def load() -> None:
                ask(reader, "SELECT sum(length(filler)) FROM filled")
                done.set()

            worker = threading.Thread(target=load)
            try:
                yield Program(pid, worker.start, done, lambda _line: None)
            finally:
                if worker.ident is not None:
                    worker.join()

    return start


def redis(work: Callable[[Redis], None]) -> Start:
    """A private Redis and the commands that load it."""

    @contextmanager
    def start(environment: dict[str, str]) -> Iterator[Program]:
        done = threading.Event()
        with private_redis(**environment) as server:

            def load() -> None:
                try:
                    work(server)
                finally:
                    done.set()

            worker = threading.Thread(target=load)
            try:
                yield Program(server.pid, worker.start, done, lambda _line: None)
            finally:
                if worker.ident is not None:
                    worker.join()

    return start
