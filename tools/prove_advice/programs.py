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

from tools.workloads.redis import Redis, private_redis

__all__ = ("Program", "Start", "churn", "cover", "phase", "polars", "redis")

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


Start = Callable[[dict[str, str]], AbstractContextManager[Program]]
"""Starts a program in a given environment."""


@contextmanager
def _piped(command: list[str], environment: dict[str, str], *, gated: bool) -> Iterator[Program]:
    """A program that prints "done"; if `gated`, it waits for a line before it starts its work."""
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
        yield Program(process.pid, (lambda: send("begin")) if gated else (lambda: None), done, send)
    finally:
        process.kill()
        process.wait()
        listener.join()


@contextmanager
def _compiled(
    source: str, arguments: list[str], env: dict[str, str], gated: bool
) -> Iterator[Program]:
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/{source}"
        code = _WORKLOADS / f"{source}.c"
        subprocess.run(["gcc", "-O1", "-pthread", "-o", program, code], check=True)
        with _piped([program, *arguments], env, gated=gated) as running:
            yield running


def phase(*arguments: object) -> Start:
    """Threads that fill memory and free it: see tools/workloads/phase.c."""
    return lambda env: _compiled("phase", [str(word) for word in arguments], env, gated=True)


def churn(threads: int, rounds: int) -> Start:
    """Threads that constantly allocate and free: see tools/workloads/churn.c."""
    return lambda env: _compiled("churn", [str(threads), "0", str(rounds)], env, gated=True)


def _python(module: str, arguments: list[str], *, gated: bool) -> Start:
    command = [sys.executable, "-m", f"tools.workloads.{module}", *arguments]
    return lambda env: _piped(command, env, gated=gated)


def polars(rows: int, rounds: int) -> Start:
    """Joins, groups and sorts: see tools/workloads/frames.py."""
    return _python("frames", ["600", str(rows), str(rounds)], gated=False)


def cover(gib: int) -> Start:
    """The RFC's own example; PURGE_KIB in the environment is the size of its calls."""
    return lambda env: _python("cover", [str(gib), env["PURGE_KIB"]], gated=True)(env)


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
