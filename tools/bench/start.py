# SPDX-License-Identifier: GPL-2.0-only
"""How long commands take to start, and what they need: python -m tools.bench.start [ROUNDS].

The target sleeps. Every command runs ROUNDS times, in turn with the others; the figures are
medians. The first start has an empty cache, so it compiles the BPF programs and the shadow
table; it runs once, with an empty folder as its cache. `advise` reads a trace of 200,000 purges
of one page each, in random order.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shadow.events import EVENT, Kind
from shadow.geometry import X86_64
from shadow.precompile import prepare
from shadow.records import Events, Facts, Seed
from shadow.snapshot import Kernel, Process
from shadow.table.page_set import Pages
from shadow.table.state import HugePages
from shadow.table.vma import VMA, VmaFlag
from shadow.trace import TraceFile
from tools.bench.peak import peak_kib

PAGE = X86_64.page
_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_WINDOW = 0.5
_PURGES = 200_000
_BASE = 1 << 36
_WRITE_FAULT, _DONTNEED = 6, 4


class _Run(NamedTuple):
    """One run of a command.

    Attributes:
        followed: seconds until it says that it follows the process; None: it never says so.
        seconds: the whole run.
        processor: seconds of processor time, with those of its children.
        mib: its largest resident set.
    """

    followed: float | None
    seconds: float
    processor: float
    mib: float


def _run(*arguments: str, **environment: str) -> _Run:
    begin, followed, peak, said = time.monotonic(), None, 0, b""
    with subprocess.Popen(
        [_PTESCOPE, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | environment,
    ) as program:
        assert program.stderr
        os.set_blocking(program.stderr.fileno(), False)
        while os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            peak = max(peak, peak_kib(program.pid))
            with suppress(BlockingIOError):
                said += os.read(program.stderr.fileno(), 1 << 16)
            if followed is None and b"ptescope: following " in said:
                followed = time.monotonic() - begin
            time.sleep(0.005)
        _, status, used = os.wait4(program.pid, 0)
        seconds = time.monotonic() - begin
        program.returncode = os.waitstatus_to_exitcode(status)
    if program.returncode:
        raise SystemExit(f"{arguments} ended with status {program.returncode}")
    return _Run(followed, seconds, used.ru_utime + used.ru_stime, peak / 1024)


@dataclass(frozen=True)
class _Row:
    """A line of the table: what, how much of which unit, and its bar."""

    name: str
    value: float
    unit: str
    bar: float

    def __str__(self) -> str:
        kept = "yes" if self.value <= self.bar else "NO"
        return (
            f"| {self.name} | {self.value:,.2f} {self.unit} | {self.bar:g} {self.unit} | {kept} |"
        )


def _write_trace(path: Path) -> None:
    """A process that touches pages in order and purges each alone, in random order."""
    vmas: np.ndarray[tuple[int], np.dtype[np.void]] = np.zeros(1, VMA)
    vmas[0] = (_BASE, _BASE + _PURGES * PAGE, VmaFlag.READ | VmaFlag.WRITE, 0, _BASE // PAGE, 0)
    order = np.random.default_rng(1).permutation(_PURGES)
    events = np.zeros(2 * _PURGES, EVENT)
    events["time"] = np.arange(len(events)) * 1000 + 1000
    events["tgid"] = events["tid"] = 1
    events["kind"] = np.repeat([Kind.FAULT, Kind.DONTNEED], _PURGES)
    events["address"] = _BASE + PAGE * np.concatenate([np.arange(_PURGES), order])
    events["length"][_PURGES:] = PAGE
    events["aux"] = np.repeat([_WRITE_FAULT, _DONTNEED], _PURGES)
    none = np.empty(0, np.int64)
    pages = Pages(none, np.empty((0, 8), np.uint64), none, np.empty(0, np.uint8), exact=True)
    facts = Facts(
        process=Process(1, "purger", 1, "", None),
        kernel=Kernel("6.18.0", "pt_reclaim", 4, PAGE, "census"),
        huge=HugePages(),
        host="",
        start_ns=1,
        wall_ns=1,
    )
    with TraceFile(path) as file:
        for record in (facts, Seed(1, pages, vmas, 0), Events(events)):
            file.write(1, 1, record)
        file.end()


def _rows(rounds: int, pid: str, trace: str) -> list[_Row]:
    commands = {
        "attach": ("attach", "-p", pid, "-d", str(_WINDOW)),
        "--help": ("--help",),
        "--version": ("--version",),
        "census": ("census", pid),
        "replay": ("replay", trace),
        "advise": ("advise", trace),
    }
    runs: dict[str, list[_Run]] = defaultdict(list)
    for _ in range(rounds):
        for name, arguments in commands.items():
            runs[name].append(_run(*arguments))

    def seconds(name: str) -> float:
        return statistics.median(run.seconds for run in runs[name])

    attached = runs["attach"]
    followed = [run.followed or run.seconds for run in attached]
    ends = [run.seconds - was - _WINDOW for run, was in zip(attached, followed, strict=True)]
    return [
        _Row("`attach` follows after", statistics.median(followed), "s", 1.2),
        _Row("`attach` ends after its window", statistics.median(ends), "s", 0.5),
        _Row("`attach`, resident set", statistics.median(r.mib for r in attached), "MiB", 150),
        _Row("`--help`", seconds("--help"), "s", 0.15),
        _Row("`--version`", seconds("--version"), "s", 0.15),
        _Row("`census PID`", seconds("census"), "s", 0.5),
        _Row(f"`replay` of {2 * _PURGES:,} events", seconds("replay"), "s", 0.8),
        _Row(f"`advise` on {_PURGES:,} purges", seconds("advise"), "s", 8),
    ]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", nargs="?", type=int, default=5)
    rounds = parser.parse_args().rounds
    prepare()
    with (
        tempfile.TemporaryDirectory() as name,
        subprocess.Popen(["sleep", "infinity"]) as target,
    ):
        try:
            pid, trace = str(target.pid), Path(name) / "purges.arrows"
            _write_trace(trace)
            first = _run("attach", "-p", pid, "-d", "0.1", PTESCOPE_CACHE=f"{name}/cache")
            rows = [
                _Row("first `attach` follows after", first.followed or first.seconds, "s", 4),
                _Row("first `attach`, processor time", first.processor, "s", 30),
                *_rows(rounds, pid, str(trace)),
            ]
        finally:
            target.kill()
    print("| | measured | bar | kept |\n|---|---:|---:|---|")
    print("\n".join(map(str, rows)))


if __name__ == "__main__":
    main()
