# SPDX-License-Identifier: GPL-2.0-only
"""A polars program: joins, groups and sorts that grow and shrink.

    python -m tools.workloads.frames SECONDS [ROWS ROUNDS]

polars brings its own jemalloc, linked into its extension. With ROUNDS, it waits for a line on
stdin before it starts. Prints "done" when the time or the rounds are over, then waits for a line.
"""

import sys
import time

import numpy as np
import polars as pl


def _round(rows: int, seed: int) -> int:
    chance = np.random.default_rng(seed)
    frame = pl.DataFrame({"key": chance.integers(0, rows // 10, rows), "x": chance.random(rows)})
    names = pl.DataFrame(
        {"key": np.arange(rows // 10), "name": [f"n{i}" for i in range(rows // 10)]}
    )
    joined = frame.join(names, on="key").group_by("name").agg(pl.col("x").sum()).sort("x")
    return len(joined)


def main() -> None:
    """Run the load, print "done", and wait."""
    if sys.argv[2:]:
        sys.stdin.readline()
    deadline = time.monotonic() + float(sys.argv[1])
    rows, rounds = map(int, sys.argv[2:] or (1_000_000, sys.maxsize))
    seed = 0
    while time.monotonic() < deadline and seed < rounds:
        _round(rows if seed % 3 == 0 else rows // 5, seed)
        seed += 1
    print("done", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
