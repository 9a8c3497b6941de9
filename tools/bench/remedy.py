# SPDX-License-Identifier: GPL-2.0-only
"""The remedy for jemalloc: what it saves and what it costs, as the table of the documentation.

    python -m tools.bench.remedy [RUNS]

Each program runs RUNS times without and with it, in turns. The table has medians: PTE pages and
empty ones at rest, read by a census, and what the work takes with the remedy, divided by what it
takes without: the elapsed time (for Redis, of redis-benchmark) and the processor time of the
program. In brackets are the lowest and highest ratio of two runs in turn; they show the noise.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from psutil import Process

from tools.bench.around import requests_per_second
from tools.prove_advice.programs import Start, churn, phase
from tools.remedy.build import built_remedy
from tools.workloads.redis import private_redis
from tracer.census import Reader, open_reader
from tracer.kernel import kernel_facts
from tracer.process.target import open_target

_RUNS = 5
_JEMALLOC = "libjemalloc.so.2"
_REST = 16.0
"""Seconds of rest, longer than the decay time of 10 s and the steps of it."""


@dataclass(frozen=True)
class _Measured:
    elapsed: float
    processor: float
    pte_pages: int
    empty: int


_Run = Callable[[Reader, str, str], _Measured]
"""Runs a program under a remedy ("": none) and settings of jemalloc."""


def _at_rest(reader: Reader, pid: int, elapsed: float, rest: float) -> _Measured:
    times = Process(pid).cpu_times()
    time.sleep(rest)
    census = reader.census(open_target(pid))
    processor = times.user + times.system
    return _Measured(elapsed, processor, census.pte_pages, int(census.occupancy[0]))


def _rest(settings: str) -> float:
    return 2.0 if "dirty_decay_ms:0" in settings else _REST


def _redis(reader: Reader, remedy: str, settings: str) -> _Measured:
    with private_redis(LD_PRELOAD=remedy, MALLOC_CONF=settings) as server:
        server.fill(40_000, 30_000)
        server.flush()
        elapsed = 1e6 / requests_per_second(server)
        return _at_rest(reader, server.pid, elapsed, _rest(settings))


def _program(start: Start) -> _Run:
    def run(reader: Reader, remedy: str, settings: str) -> _Measured:
        preload = f"{remedy}:{_JEMALLOC}" if remedy else _JEMALLOC
        with start({"LD_PRELOAD": preload, "MALLOC_CONF": settings}) as program:
            began = time.monotonic()
            program.begin()
            program.done.wait()
            elapsed = time.monotonic() - began
            return _at_rest(reader, program.pid, elapsed, _rest(settings))

    return run


_CHURN = _program(churn(2, 400))
_BUFFERS = _program(phase(4, 1536, 1 << 16, 1 << 20, 0, 3))
_BACKGROUND = "background_thread:true"
_ROWS: tuple[tuple[str, str, _Run, bool], ...] = (
    ("Redis, SETs and FLUSHALL", "", _redis, True),
    ("Redis, SETs and FLUSHALL", "dirty_decay_ms:0", _redis, True),
    ("churn, 2 threads", _BACKGROUND, _CHURN, True),
    ("churn, 2 threads", f"{_BACKGROUND},dirty_decay_ms:0", _CHURN, True),
    ("buffers, 4 threads", _BACKGROUND, _BUFFERS, False),
    ("buffers, 4 threads", f"{_BACKGROUND},dirty_decay_ms:0", _BUFFERS, False),
)
"""Name, settings of jemalloc, program, and whether the elapsed time counts: buffers waits."""


def _tables(runs: list[_Measured]) -> str:
    pages, empty = median(run.pte_pages for run in runs), median(run.empty for run in runs)
    return f"{pages:,.0f}, {empty:,.0f}"


def _row(name: str, settings: str, pairs: list[tuple[_Measured, _Measured]], timed: bool) -> str:
    without, with_it = (list(runs) for runs in zip(*pairs, strict=True))
    gone = 1 - median(run.empty for run in with_it) / max(median(r.empty for r in without), 1)
    elapsed = _ratio([(before.elapsed, after.elapsed) for before, after in pairs])
    processor = _ratio([(before.processor, after.processor) for before, after in pairs])
    cells = [name, settings or "defaults", _tables(without), _tables(with_it), f"{gone:.1%}"]
    return f"| {' | '.join([*cells, elapsed if timed else '-', processor])} |"


def _ratio(pairs: list[tuple[float, float]]) -> str:
    before, after = (median(times) for times in zip(*pairs, strict=True))
    each = [with_it / without for without, with_it in pairs]
    return f"{after / before:.3f} ({min(each):.3f} to {max(each):.3f})"


def main() -> None:
    """Measure, and print each row when it is known."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else _RUNS
    kernel = kernel_facts()
    reader = open_reader(kernel.levels)
    print(f"{kernel.release}, {os.cpu_count()} processors, medians of {count} runs\n")
    print(
        "| program | jemalloc | PTE pages, empty: without | with | empty ones gone "
        "| time | processor time |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        remedy = built_remedy(Path(folder))
        for name, settings, run, timed in _ROWS:
            pairs = [
                (run(reader, "", settings), run(reader, remedy, settings)) for _ in range(count)
            ]
            print(_row(name, settings, pairs, timed), flush=True)
    reader.close()


if __name__ == "__main__":
    main()
