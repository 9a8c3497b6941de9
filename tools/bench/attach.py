# SPDX-License-Identifier: GPL-2.0-only
"""The cost and throughput of attaching: python -m tools.bench.attach [ROUNDS].

A page-fault storm runs untraced, under an empty BPF program on the same tracepoints, and followed
by ptescope, in turn. The output has medians of the rounds and of their ratios and, for ptescope,
events per second, losses, and CPU time per event from the ring to the table.
"""

import select
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from shadow.precompile import prepare
from shadow.table.counters import Counter
from tools.bench.around import detached
from tools.workloads.storm import PAGES, Storm
from tracer.bpf.hook import AttachType, Hook
from tracer.bpf.program import BpfProgram
from tracer.census import open_reader
from tracer.follow.loop import Pace
from tracer.follow.session import Session
from tracer.kernel import kernel_facts
from tracer.probes.stream import Probes
from tracer.process.target import open_target

_STORM_ROUNDS = 40
_SLOWDOWN_BAR, _RING_BAR_NS = 1.06, 120
_HOOKS = ("page_fault_user", "sys_enter", "sys_exit")


def _wait(storm: Storm, pump: Callable[[], object]) -> int:
    """Pump at the pace of `attach` until the storm answers; returns its nanoseconds."""
    while not select.select([storm.answer], [], [], Pace().busy)[0]:
        pump()
    return int(storm.answer.readline())


@contextmanager
def _empty() -> Iterator[None]:
    program = BpfProgram([Path(__file__).parent / "empty.c"], {})
    for name in _HOOKS:
        program.attach(Hook(AttachType.RAW_TRACEPOINT, name, f"on_{name}"))
    yield
    program.close()
    detached()


def _plain(storm: Storm, around: Callable[[], AbstractContextManager[None]]) -> float:
    """Nanoseconds per fault, untraced or with the empty program."""
    with around():
        storm.start(_STORM_ROUNDS)
        return _wait(storm, lambda: None) / (_STORM_ROUNDS * PAGES)


class _Followed:
    """Nanoseconds per fault under ptescope, and the cost of ptescope itself."""

    def __init__(self) -> None:
        self.cpu_per_event: list[float] = []
        self.rate: list[float] = []
        self.events = self.lost = 0
        self._reader = open_reader(kernel_facts().geometry)

    def run(self, storm: Storm) -> float:
        kernel = kernel_facts()
        probes = Probes(geometry=kernel.geometry)
        try:
            probes.add(storm.pid)
            session = Session(open_target(storm.pid), probes, kernel, self._reader)
            session.seed()
            cpu, begin = time.process_time_ns(), time.monotonic_ns()
            storm.start(_STORM_ROUNDS)
            took = _wait(storm, session.pump)
            while session.pump():
                pass
            cpu, wall = time.process_time_ns() - cpu, time.monotonic_ns() - begin
            session.stop()
            events = session.events
            self.cpu_per_event.append(cpu / events)
            self.rate.append(events / wall * 1e9)
            self.events += events
            self.lost += session.table.counter(Counter.LOST)
        finally:
            probes.close()
            detached()
        return took / (_STORM_ROUNDS * PAGES)


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    prepare()
    storm, followed = Storm(), _Followed()
    times: dict[str, list[float]] = {"untraced": [], "empty BPF program": [], "ptescope": []}
    for _ in range(rounds):
        times["untraced"].append(_plain(storm, nullcontext))
        times["empty BPF program"].append(_plain(storm, _empty))
        times["ptescope"].append(followed.run(storm))
    storm.close()
    print(f"page-fault storm, {rounds} alternating rounds of {_STORM_ROUNDS * PAGES:,} faults")
    for name, values in times.items():
        ratios = [a / b for a, b in zip(values, times["untraced"], strict=True)]
        print(
            f"  {name:18} {statistics.median(values):7.0f} ns a fault (min {min(values):.0f}, "
            f"max {max(values):.0f}), {statistics.median(ratios):.2f} x untraced"
        )
    pairs = zip(times["ptescope"], times["empty BPF program"], strict=True)
    slowdown = statistics.median(a / b for a, b in pairs)
    print(f"  slowdown           {slowdown:.2f} x an empty BPF program (bar: {_SLOWDOWN_BAR})")
    print(
        f"  taken              {statistics.median(followed.rate):,.0f} events/s, "
        f"{followed.lost} of {followed.events:,} lost"
    )
    print(
        f"  ring to table      {statistics.median(followed.cpu_per_event):.0f} ns of CPU an event "
        f"(bar: {_RING_BAR_NS})"
    )


if __name__ == "__main__":
    main()
