# SPDX-License-Identifier: GPL-2.0-only
"""The cost of following a whole host: python -m tools.bench.daemon [ROUNDS] [PART ...].

Parts (default: all):

alone: CPU and memory of the daemon with 10, 100 and 1,000 processes of 300 PTE pages, which
  are idle, or touch and return 30 pages a second each; the daemon follows no other processes.
  It also measures how long the daemon takes to end after SIGTERM.
redis: redis-benchmark alone, with `ptescope daemon`, and with `perf record -a` of the same
  tracepoints, in turn; medians of the rounds and of their ratios.
storm: the same for a page-fault storm.
"""

import argparse
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import psutil

from tools.bench.around import PERF_EVENTS, REQUESTS, interrupted, requests_per_second
from tools.workloads.redis import private_redis
from tools.workloads.storm import PAGES, Storm

_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_STORM_ROUNDS = 100
_PARTS = ("alone", "redis", "storm")
_CROWD = """
import mmap, os, time
open("/proc/self/comm", "w").write("crowd")
slots, busy = 300, {busy}
area = mmap.mmap(-1, slots << 21, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
area.madvise(mmap.MADV_NOHUGEPAGE)
for _ in range({count} - 1):
    if os.fork() == 0:
        break
for slot in range(slots):
    area[slot << 21] = 1
while True:
    time.sleep(1)
    for page in range(1, 31 if busy else 0):
        area[page << 12] = 1
    if busy:
        area.madvise(mmap.MADV_DONTNEED, 4096, 30 << 12)
"""
_MEASURED_SECONDS = 20.0
_FIRST_SECONDS = 5.0
"""Time in which the daemon examines the executable and libraries of every process, once."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _metric(port: int, pattern: str) -> float:
    """The value of a metric of the daemon; 0 while the daemon does not answer yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            found = re.search(f"^{pattern} (\\S+)$", answer.read().decode(), re.MULTILINE)
    except OSError:
        return 0.0
    return float(found[1]) if found else 0.0


def _followed(port: int) -> float:
    return _metric(port, r'ptescope_processes\{following="followed"\}')


def _daemon(*options: str) -> AbstractContextManager[None]:
    port = _free_port()
    command = [_PTESCOPE, "daemon", "--listen", f"127.0.0.1:{port}", *options]
    return interrupted(command, lambda: _followed(port) > 0, settle=_FIRST_SECONDS)


@contextmanager
def _perf() -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="ptescope-bench-") as folder:
        data = Path(folder) / "perf.data"
        command = ["perf", "record", "-q", "-a", "-c", "1", "-o", str(data), "-e", PERF_EVENTS]
        with interrupted(command, lambda: data.exists() and data.stat().st_size > 0):
            yield


def _compare(
    what: str,
    unit: str,
    rounds: int,
    measure: Callable[[], float],
    options: tuple[str, ...] = (),
) -> None:
    """Print the result of `measure` with each of the three.

    Args:
        what: the load.
        unit: the unit of the result.
        rounds: the number of rounds of each.
        measure: runs the load; returns a time.
        options: options of the daemon that make it follow the load.
    """
    around: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "nothing": nullcontext,
        "ptescope daemon": lambda: _daemon(*options),
        "perf record -a": _perf,
    }
    times: dict[str, list[float]] = {name: [] for name in around}
    measure()  # once, to warm up
    for turn in range(rounds):
        # Each comes first in turn, because each may affect the next.
        names = deque(around)
        names.rotate(turn)
        for name in names:
            with around[name]():
                times[name].append(measure())
    print(f"{what}, {rounds} alternating rounds")
    for name, values in times.items():
        ratios = [b / a for a, b in zip(times["nothing"], values, strict=True)]
        print(
            f"  {name:16} {statistics.median(values):9,.1f} {unit} (min {min(values):,.1f}, "
            f"max {max(values):,.1f}), {statistics.median(ratios):.2f} x with nothing",
            flush=True,
        )


def _storm_ns(storm: Storm) -> float:
    storm.start(_STORM_ROUNDS)
    return int(storm.answer.readline()) / (_STORM_ROUNDS * PAGES)


@contextmanager
def _crowd(count: int, *, busy: bool) -> Iterator[None]:
    program = subprocess.Popen(
        [sys.executable, "-c", _CROWD.format(count=count, busy=busy)], start_new_session=True
    )
    try:
        yield
    finally:
        os.killpg(program.pid, signal.SIGKILL)
        program.wait()


def _own_cost(count: int, *, busy: bool) -> None:
    port = _free_port()
    with _crowd(count, busy=busy):
        time.sleep(3 + count / 200)
        command = [_PTESCOPE, "daemon", "--listen", f"127.0.0.1:{port}", "--max-cpu", "100"]
        command += ["--max-memory", "2G", "--name", "crowd"]
        daemon = psutil.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while _followed(port) < count and time.monotonic() < deadline:
            time.sleep(1)
        time.sleep(5)
        before, began = sum(daemon.cpu_times()[:2]), time.monotonic()
        time.sleep(_MEASURED_SECONDS)
        share = (sum(daemon.cpu_times()[:2]) - before) / (time.monotonic() - began)
        memory = daemon.memory_info().rss
        events = _metric(port, "ptescope_self_events_total")
        lost = _metric(port, "ptescope_self_lost_events_total")
        followed = _followed(port)
        asked = time.monotonic()
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()
        ended = time.monotonic() - asked
    print(
        f"  {count:5,} {'busy' if busy else 'idle'}  {followed:5,.0f} followed  "
        f"{share:6.2%} of a CPU  {memory / (1 << 20):5.0f} MiB  {lost:,.0f} of {events:,.0f} lost  "
        f"ends in {ended:.1f} s",
        flush=True,
    )


def _alone() -> None:
    print(f"the daemon alone, {_MEASURED_SECONDS:.0f} s each")
    for count in (10, 100, 1000):
        for busy in (False, True):
            _own_cost(count, busy=busy)


def _redis(rounds: int) -> None:
    with private_redis(MALLOC_CONF="dirty_decay_ms:1000") as redis:
        what = f"redis-benchmark, {REQUESTS:,} SETs"
        _compare(what, "ns a request", rounds, lambda: 1e9 / requests_per_second(redis))


def _storms(rounds: int) -> None:
    storm = Storm()
    options = ("--min-vmpte", "64K")
    _compare("page-fault storm", "ns a fault", rounds, lambda: _storm_ns(storm), options)
    storm.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the cost of following a whole host.")
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    parser.add_argument("parts", nargs="*", metavar="PART", help=" ".join(_PARTS))
    arguments = parser.parse_args()
    parts = arguments.parts or list(_PARTS)
    if unknown := set(parts) - set(_PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")
    if "alone" in parts:
        _alone()
    if "redis" in parts:
        _redis(arguments.rounds)
    if "storm" in parts:
        _storms(arguments.rounds)


if __name__ == "__main__":
    main()
