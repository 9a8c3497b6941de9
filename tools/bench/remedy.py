# SPDX-License-Identifier: GPL-2.0-only
"""The remedy for jemalloc: what it saves and what it costs, as the table of the documentation.

    python -m tools.bench.remedy [RUNS]

Each program runs RUNS times without the remedy and with it, side by side; both work in turns of a
few seconds and then rest together. The table has medians: of PTE pages and empty ones at rest,
read by a census, and of what a turn takes with the remedy divided by what the turn beside it takes
without. Each goes first as often as the other. The time is the elapsed time, for Redis that of
redis-benchmark; the processor time is that of the program. In brackets are the quartiles of the
ratios, which show the noise.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import TypeVar

from psutil import Process

from tools.bench.around import requests_per_second
from tools.prove_advice.programs import Program, Start, churn, phase
from tools.remedy.build import built_remedy
from tools.workloads.redis import Redis, private_redis
from tracer.census import Reader, open_reader
from tracer.kernel import kernel_facts
from tracer.process.target import open_target

_RUNS = 3
_TURNS = 6
_REQUESTS = 300_000
_JEMALLOC = "libjemalloc.so.2"
_REST = 16.0
"""Seconds of rest, longer than the decay time of 10 s and the steps of it."""


@dataclass(frozen=True)
class _Took:
    """What a turn took, seconds."""

    elapsed: float
    processor: float


@dataclass(frozen=True)
class _Tables:
    pte_pages: int
    empty: int


@dataclass(frozen=True)
class _Run:
    """One run: the turns and the tables at rest, each without the remedy and with it."""

    turns: list[tuple[_Took, _Took]]
    tables: tuple[_Tables, _Tables]


_Side = TypeVar("_Side")
_Measure = Callable[[Reader, tuple[str, str], str], _Run]
"""Runs a program under each of two values of LD_PRELOAD, and settings of jemalloc."""


def _processor(pid: int) -> float:
    times = Process(pid).cpu_times()
    return float(times.user + times.system)


def _at_rest(reader: Reader, pids: list[int], settings: str) -> tuple[_Tables, _Tables]:
    time.sleep(2 if "dirty_decay_ms:0" in settings else _REST)
    without, with_it = (reader.census(open_target(pid)) for pid in pids)
    return (
        _Tables(without.pte_pages, int(without.occupancy[0])),
        _Tables(with_it.pte_pages, int(with_it.occupancy[0])),
    )


def _both(number: int, turn: Callable[[_Side], _Took], sides: list[_Side]) -> tuple[_Took, _Took]:
    """A turn of each side; the number decides which goes first."""
    first, second = sides if number % 2 else reversed(sides)
    took = {id(first): turn(first), id(second): turn(second)}
    without, with_it = (took[id(side)] for side in sides)
    return without, with_it


def _turn_of_redis(server: Redis) -> _Took:
    before = _processor(server.pid)
    elapsed = 1 / requests_per_second(server, _REQUESTS)
    return _Took(elapsed, _processor(server.pid) - before)


def _redis(reader: Reader, preloads: tuple[str, str], settings: str) -> _Run:
    with ExitStack() as stack:
        servers = [
            stack.enter_context(private_redis(LD_PRELOAD=preload, MALLOC_CONF=settings))
            for preload in preloads
        ]
        for server in servers:
            server.fill(40_000, 30_000)
            server.flush()
        turns = [_both(number, _turn_of_redis, servers) for number in range(_TURNS)]
        return _Run(turns, _at_rest(reader, [server.pid for server in servers], settings))


def _work(program: Program) -> _Took:
    began = time.monotonic()
    program.begin()
    program.done.wait()
    return _Took(time.monotonic() - began, _processor(program.pid))


def _program(start: Start) -> _Measure:
    """A program that does its work once: each turn is a new process, and the last ones rest."""

    def measure(reader: Reader, preloads: tuple[str, str], settings: str) -> _Run:
        conf = ",".join(["background_thread:true", *([settings] if settings else [])])
        environments = [
            {"LD_PRELOAD": f"{preload}:{_JEMALLOC}".lstrip(":"), "MALLOC_CONF": conf}
            for preload in preloads
        ]
        turns = []
        for number in range(_TURNS):
            with ExitStack() as stack:
                programs = [stack.enter_context(start(each)) for each in environments]
                turns.append(_both(number, _work, programs))
                if number == _TURNS - 1:
                    tables = _at_rest(reader, [program.pid for program in programs], settings)
        return _Run(turns, tables)

    return measure


_CHURN, _BUFFERS = _program(churn(2, 40)), _program(phase(4, 1024, 1 << 16, 1 << 20, 0, 1))
_ROWS: tuple[tuple[str, _Measure, bool], ...] = (
    ("Redis, SETs and FLUSHALL", _redis, True),
    ("churn, 2 threads", _CHURN, True),
    ("buffers, 4 threads", _BUFFERS, False),
)
"""Name, program, and whether the elapsed time counts: buffers waits."""


def _ratio(pairs: list[tuple[float, float]]) -> str:
    ratios = [with_it / without for without, with_it in pairs]
    low, middle, high = quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def _row(name: str, settings: str, runs: list[_Run], *, timed: bool) -> str:
    sides = [[run.tables[side] for run in runs] for side in range(2)]
    pages = [median(tables.pte_pages for tables in side) for side in sides]
    empty = [median(tables.empty for tables in side) for side in sides]
    turns = [turn for run in runs for turn in run.turns]
    elapsed = _ratio([(first.elapsed, second.elapsed) for first, second in turns])
    processor = _ratio([(first.processor, second.processor) for first, second in turns])
    cells = [
        name,
        f"`{settings}`" if settings else "defaults",
        *(f"{both:,.0f}, {none:,.0f}" for both, none in zip(pages, empty, strict=True)),
        f"{1 - empty[1] / max(empty[0], 1):.1%}",
        elapsed if timed else "-",
        processor,
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, and print each row when it is known."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else _RUNS
    reader = open_reader(kernel_facts().geometry)
    print(f"{count} runs of {_TURNS} turns each.\n")
    heading = ("program", "jemalloc", "PTE pages, empty: without", "with", "empty ones gone")
    print(f"| {' | '.join([*heading, 'time', 'processor time'])} |\n|{'---|' * 7}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        preloads = ("", built_remedy(Path(folder)))
        for name, measure, timed in _ROWS:
            for settings in ("", "dirty_decay_ms:0"):
                runs = [measure(reader, preloads, settings) for _ in range(count)]
                print(_row(name, settings, runs, timed=timed), flush=True)
    reader.close()


if __name__ == "__main__":
    main()
