# SPDX-License-Identifier: GPL-2.0-only
"""The speed of the shadow table: python -m tools.bench.replay [ROUNDS] [MILLIONS].

It applies a recorded Redis and synthetic storms under all policies at once, and compares the
speed with the same loop in C (replay.c, -O2), which works on the same arrays and must end with the
same contents. The output has medians of alternating rounds, bytes per PTE page, and the time to
load the table from a warm cache.
"""

import ctypes
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np

from shadow.events import EventBatch, Kind
from shadow.geometry import X86_64
from shadow.policy import Policy
from shadow.precompile import prepare
from shadow.table.counters import Counter
from shadow.table.origin_codes import KIND_BITS, LOCKED
from shadow.table.state import record_type
from shadow.table.table import Table
from shadow.table.vma import VMA, VmaFlag
from shadow.uapi import MADV_DONTNEED_LOCKED
from tools.bench.streams import Stream, many_slots, redis, synthetic

_ARRAYS = ("upper", "upper_pool", "records", "record_pool", "vmas", "counters", "area")
_MANY = 10_000_000
_FEW = 10_000
_BAR = 0.75


class _CState(ctypes.Structure):
    _fields_ = (
        *[(name, ctypes.c_void_p) for name in _ARRAYS],
        ("uppers", ctypes.c_int64),
        ("record_count", ctypes.c_int64),
    )


def _macros() -> list[str]:
    counters = {name: member.value for name, member in Counter.__members__.items()}
    flags = {f"F_{name}": member.value for name, member in VmaFlag.__members__.items()}
    flags["F_ACCESS"] = VmaFlag.READ | VmaFlag.WRITE | VmaFlag.EXEC
    kinds = {f"K_{kind.name}": kind.value for kind in (Kind.FAULT, Kind.DONTNEED, Kind.FREE)}
    policies = {policy.name: policy.value for policy in Policy} | {"POLICIES": len(Policy)}
    others = {
        "MADV_DONTNEED_LOCKED": MADV_DONTNEED_LOCKED,
        "LOCKED": LOCKED,
        "KIND_BITS": KIND_BITS,
        "RECORD_BYTES": record_type(X86_64.entries).itemsize,
        "VMA_BYTES": VMA.itemsize,
    }
    macros = counters | flags | kinds | policies | others
    return [f"-D{name}={value}" for name, value in macros.items()]


class CLoop:
    """The loop in C, compiled for this run."""

    def __init__(self, folder: str) -> None:
        library = Path(folder) / "replay.so"
        source = Path(__file__).with_name("replay.c")
        command = ["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", str(library), str(source)]
        subprocess.run([*command, *_macros()], check=True)
        self._run = ctypes.CDLL(str(library)).run
        self._run.restype = ctypes.c_int64
        self._run.argtypes = (
            ctypes.POINTER(_CState), ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
        )  # fmt: skip

    def feed(self, table: Table, events: EventBatch) -> None:
        """Apply events as `Table.feed` does; the table applies those that the C loop leaves out."""
        done = 0
        while done < len(events):
            state = table.state
            arrays = {name: getattr(state, name).ctypes.data for name in _ARRAYS}
            c = _CState(**arrays, uppers=len(state.upper), record_count=len(state.records))
            done = self._run(ctypes.byref(c), events.ctypes.data, done, len(events))
            table.feed(events[done : done + 1])
            done += 1


def _seconds(feed: Callable[[Table, EventBatch], None], stream: Stream) -> tuple[float, Table]:
    table = deepcopy(stream.start)
    begin = time.perf_counter()
    feed(table, stream.events)
    return time.perf_counter() - begin, table


def assert_equal(one: Table, other: Table) -> None:
    """Exit if two tables differ."""
    for name in ("records", "vmas", "counters", "area"):
        mine, others = getattr(one.state, name), getattr(other.state, name)
        common = min(len(mine), len(others))
        if not np.array_equal(mine[:common], others[:common]):
            raise SystemExit(f"the two loops end with different {name}")


def _compare(stream: Stream, c_loop: CLoop, rounds: int) -> float:
    """Print a row; returns the events per second of the table."""
    ours, theirs = [], []
    for _ in range(rounds):
        seconds, table = _seconds(Table.feed, stream)
        ours.append(seconds)
        seconds, other = _seconds(c_loop.feed, stream)
        theirs.append(seconds)
        assert_equal(table, other)
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    rate = len(stream.events) / statistics.median(ours)
    pages = table.counter(Counter.RECORDS_USED) - 1
    print(
        f"{stream.name:30} {len(stream.events):>12,} {rate / 1e6:>10.1f} "
        f"{len(stream.events) / statistics.median(theirs) / 1e6:>8.1f} {ratio:>8.2f} "
        f"{pages:>12,} {table.nbytes() / pages:>10,.0f}",
        flush=True,
    )
    return rate


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    count = (int(sys.argv[2]) if len(sys.argv) > 2 else 10) * 1_000_000
    prepare()
    load = "import time; t = time.perf_counter(); "
    load += "from shadow.precompile import prepare; prepare(); "
    load += "print(time.perf_counter() - t)"
    warm = [
        float(subprocess.run([sys.executable, "-c", load], capture_output=True, check=True).stdout)
        for _ in range(rounds)
    ]
    print(f"import and load from a warm cache: {statistics.median(warm):.2f} s")
    print(
        f"{'stream':30} {'events':>12} {'M events/s':>10} {'C -O2':>8} {'of C':>8} "
        f"{'PTE pages':>12} {'bytes each':>10}"
    )
    with tempfile.TemporaryDirectory() as folder:
        c_loop = CLoop(folder)
        _compare(redis(), c_loop, rounds)
        print(f"  bar for Redis: {_BAR} of C")
        for stream in synthetic(count):
            _compare(stream, c_loop, rounds)
        for random in (False, True):
            few = _compare(many_slots(_FEW, count, random=random), c_loop, rounds)
            many = _compare(many_slots(_MANY, count, random=random), c_loop, rounds)
            print(f"  {_MANY:,} PTE pages against {_FEW:,}: {many / few:.2f} of the speed")


if __name__ == "__main__":
    main()
