# SPDX-License-Identifier: GPL-2.0-only
"""The cost of recording, and the size of traces: python -m tools.bench.record [ROUNDS].

1. redis-benchmark (SET, pipelined, values of 500 bytes, then FLUSHALL) untraced, under
   `ptescope record`, and under `perf record` of the same tracepoints, in turn; medians of the
   rounds and of their ratios.
2. Bytes per event of these traces and of perf.data.
3. A recorded page-fault storm: faults per second, and losses.
4. Replay from file to snapshot, on one processor.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from shadow.precompile import prepare
from shadow.replay import Question, replay_one
from shadow.snapshot import Snapshot
from tools.bench.around import PERF_EVENTS, REQUESTS, interrupted, requests_per_second
from tools.workloads.redis import private_redis
from tools.workloads.storm import PAGES, Storm

_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_STORM_ROUNDS = 250


def _has(path: Path, size: int) -> Callable[[], bool]:
    """Whether a file has grown to `size` bytes."""
    return lambda: path.exists() and path.stat().st_size >= size


def _ptescope(pid: int, trace: Path) -> AbstractContextManager[None]:
    command = [_PTESCOPE, "record", "--force", "-o", str(trace), "-p", str(pid)]
    trace.unlink(missing_ok=True)
    return interrupted(command, _has(trace, 2000))


def _perf(pid: int, data: Path) -> AbstractContextManager[None]:
    command = ["perf", "record", "-q", "-c", "1", "-o", str(data), "-e", PERF_EVENTS]
    data.unlink(missing_ok=True)
    return interrupted([*command, "-p", str(pid)], _has(data, 1))


def _perf_samples(data: Path) -> int:
    report = subprocess.run(
        ["perf", "report", "-i", str(data), "--stats"], capture_output=True, text=True, check=True
    )
    found = re.search(r"SAMPLE events:\s+(\d+)", report.stdout)
    assert found, report.stdout
    return int(found[1])


def _replayed(trace: Path) -> tuple[Snapshot, float]:
    """The snapshot of a trace, and the median seconds of three replays."""
    took = []
    for _ in range(3):
        begin = time.perf_counter()
        outcome = replay_one(str(trace), Question())
        took.append(time.perf_counter() - begin)
    assert outcome.problem is None, outcome.problem
    (followed,) = outcome.followed
    return followed.snapshot, statistics.median(took)


def _redis(rounds: int, folder: Path) -> None:
    trace, data = folder / "redis.arrows", folder / "perf.data"
    rates: dict[str, list[float]] = {"untraced": [], "ptescope record": [], "perf record": []}
    with private_redis(MALLOC_CONF="dirty_decay_ms:1000") as redis:
        pid = redis.pid
        around: dict[str, Callable[[], AbstractContextManager[None]]] = {
            "untraced": nullcontext,
            "ptescope record": lambda: _ptescope(pid, trace),
            "perf record": lambda: _perf(pid, data),
        }
        requests_per_second(redis)  # once, to warm up
        for _ in range(rounds):
            for name, recorder in around.items():
                with recorder():
                    rates[name].append(requests_per_second(redis))
    print(f"redis-benchmark, {rounds} alternating rounds of {REQUESTS:,} SETs")
    for name, values in rates.items():
        ratios = [b / a for a, b in zip(values, rates["untraced"], strict=True)]
        print(
            f"  {name:16} {statistics.median(values):9,.0f} requests/s (min {min(values):,.0f}, "
            f"max {max(values):,.0f}), {statistics.median(ratios):.2f} x the time untraced"
        )
    snapshot, _ = _replayed(trace)
    events, samples = sum(snapshot.window.events.values()), _perf_samples(data)
    sizes = trace.stat().st_size, data.stat().st_size
    print(
        f"  trace            {sizes[0]:,} bytes, {events:,} events: {sizes[0] / events:.2f} each, "
        f"{snapshot.window.lost} lost\n"
        f"  perf.data        {sizes[1]:,} bytes, {samples:,} samples: {sizes[1] / samples:.1f} each"
    )


def _storm(folder: Path) -> None:
    trace = folder / "storm.arrows"
    storm = Storm()
    with _ptescope(storm.pid, trace):
        storm.start(_STORM_ROUNDS)
        took = int(storm.answer.readline())
    storm.close()
    faults = _STORM_ROUNDS * PAGES
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    snapshot, seconds = _replayed(trace)
    events = sum(snapshot.window.events.values())
    dropped = sum("trace lacks" in note for note in snapshot.notes)
    print(
        f"page-fault storm, recorded: {faults / took * 1e9:,.0f} faults/s, "
        f"{snapshot.window.lost} of {events:,} events lost, {dropped} gaps in the trace\n"
        f"  trace            {trace.stat().st_size / events:.2f} bytes an event\n"
        f"  replay           {events / seconds / 1e6:.1f} million events/s on one processor, "
        "from file to snapshot"
    )


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    prepare()
    with tempfile.TemporaryDirectory(prefix="ptescope-bench-") as folder:
        _redis(rounds, Path(folder))
        _storm(Path(folder))


if __name__ == "__main__":
    main()
