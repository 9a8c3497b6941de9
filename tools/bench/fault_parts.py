# SPDX-License-Identifier: GPL-2.0-only
"""What the parts of a probe cost: python -m tools.bench.fault_parts [ROUNDS].

Programs that do a part more each run in turn, without a fault. The kernel takes their time
(kernel.bpf_stats_enabled, which this sets for the run). The output has the median of the rounds,
less that of the empty program, because taking the time takes time as well.
"""

import mmap
import os
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracer.bpf.compile import BPF_FOLDER
from tracer.bpf.program import BpfProgram
from tracer.bpf.syscall import run_once
from tracer.probes.ring import Ring

_ENABLED = Path("/proc/sys/kernel/bpf_stats_enabled")
_RING_BYTES = 16 << 20
_DEFINES = {
    "RING_PAGES": _RING_BYTES // mmap.PAGESIZE,
    "PAGE_SHIFT": mmap.PAGESIZE.bit_length() - 1,
}
_RUNS = 20_000
_PARTS = {
    "part_target": "find the process",
    "part_time": "and take the time",
    "part_event": "and send an event",
}


@contextmanager
def _taking_times() -> Iterator[None]:
    before = _ENABLED.read_text()
    _ENABLED.write_text("1")
    try:
        yield
    finally:
        _ENABLED.write_text(before)


def _taken(program: int) -> tuple[int, int]:
    """The nanoseconds and the number of all runs of a program."""
    lines = Path(f"/proc/self/fdinfo/{program}").read_text().splitlines()
    info = dict(line.split(":\t", 1) for line in lines)
    return int(info["run_time_ns"]), int(info["run_cnt"])


def _each(program: int, ring: Ring) -> float:
    """Nanoseconds of a run."""
    before, runs = _taken(program)
    for _ in range(_RUNS):
        run_once(program)
    while len(ring.read()):
        pass
    after, runs_after = _taken(program)
    return (after - before) / (runs_after - runs)


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    sources = [BPF_FOLDER / "probes" / "event.c", Path(__file__).with_suffix(".c")]
    program = BpfProgram(sources, _DEFINES)
    program.update("targets", os.getpid(), bytes(8))
    ring = Ring(program.map_fd("ring"), _RING_BYTES)
    parts = {name: program.load(name) for name in ("part_empty", *_PARTS)}
    costs: dict[str, list[float]] = {name: [] for name in parts}
    with _taking_times():
        for _ in range(rounds):
            for name, loaded in parts.items():
                costs[name].append(_each(loaded, ring))
    ring.close()
    program.close()
    empty = costs["part_empty"]
    print(f"{rounds} alternating rounds of {_RUNS:,} runs of each program")
    for name, what in _PARTS.items():
        more = [cost - base for cost, base in zip(costs[name], empty, strict=True)]
        print(f"  {what:18} {statistics.median(more):4.0f} ns more than an empty program")


if __name__ == "__main__":
    main()
