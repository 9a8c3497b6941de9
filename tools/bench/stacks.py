# SPDX-License-Identifier: GPL-2.0-only
"""The cost of stacks: python -m tools.bench.stacks [ROUNDS].

1. redis-benchmark (SET, pipelined, values of 500 bytes, then FLUSHALL) under `ptescope record`,
   without and with `--stacks`, in turn; medians of the rounds and of their ratios.
2. Of the last recording with stacks: how many were sampled, complete and recognised, and the CPU
   time of the unwinder.
"""

import statistics
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

from shadow.precompile import prepare
from shadow.replay import Question, replay_one
from shadow.stacks import StackTotals
from tools.bench.around import REQUESTS, interrupted, requests_per_second
from tools.workloads.redis import private_redis

_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_STARTED_BYTES = 2000


def _recorded(pid: int, trace: Path, *options: str) -> AbstractContextManager[None]:
    command = [_PTESCOPE, "record", "--force", "-o", str(trace), "-p", str(pid), *options]
    trace.unlink(missing_ok=True)
    return interrupted(command, lambda: trace.exists() and trace.stat().st_size >= _STARTED_BYTES)


def _totals(trace: Path) -> StackTotals:
    outcome = replay_one(str(trace), Question())
    assert outcome.problem is None, outcome.problem
    (followed,) = outcome.followed
    assert followed.snapshot.stacks
    return followed.snapshot.stacks.totals


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    prepare()
    rates: dict[str, list[float]] = {"record": [], "record --stacks": []}
    with tempfile.TemporaryDirectory(prefix="ptescope-bench-") as folder:
        trace = Path(folder) / "redis.arrows"
        with private_redis(MALLOC_CONF="dirty_decay_ms:1000") as redis:
            requests_per_second(redis)  # once, to warm up
            for _ in range(rounds):
                for name, rate in rates.items():
                    with _recorded(redis.pid, trace, *name.split()[1:]):
                        rate.append(requests_per_second(redis))
        totals = _totals(trace)
    print(f"redis-benchmark, {rounds} alternating rounds of {REQUESTS:,} SETs")
    for name, values in rates.items():
        print(
            f"  {name:16} {statistics.median(values):9,.0f} requests/s "
            f"(min {min(values):,.0f}, max {max(values):,.0f})"
        )
    ratios = [without / with_stacks for without, with_stacks in zip(*rates.values(), strict=True)]
    print(f"  with stacks {statistics.median(ratios):.3f} x the time without (median of ratios)")
    print(
        f"  last recording   {totals.taken:,} of {totals.seen:,} stacks sampled, {totals.lost} "
        f"lost, {totals.complete:,} of {totals.unwound:,} complete, {totals.repeats:,} recognised; "
        f"{totals.unwind_ns / totals.unwound / 1e3:.1f} us of CPU each to unwind, "
        f"{totals.names_ns / 1e6:.0f} ms to name them"
    )


if __name__ == "__main__":
    main()
