# SPDX-License-Identifier: GPL-2.0-only
"""A polars program: joins, groups and sorts that grow and shrink.

    python -m tools.workloads.frames SECONDS [ROWS ROUNDS]

polars brings its own jemalloc, linked into its extension. Prints "done" when
the time or the rounds are over, then waits for a line on stdin.
"""

import sys
import time

import numpy as np
import polars as pl

__all__ = ("one_round",)


def one_round(rows: int, seed: int) -> int:
    """Join, group and sort a frame with so many rows; returns the number of groups."""
    chance = np.random.default_rng(seed)
    frame = pl.DataFrame({"key": chance.integers(0, rows // 10, rows), "x": chance.random(rows)})
    names = pl.DataFrame(
        {"key": np.arange(rows // 10), "name": [f"n{i}" for i in range(rows // 10)]}
    )
    joined = frame.join(names, on="key").group_by("name").agg(pl.col("x").sum()).sort("x")
    return len(joined)


def main() -> None:
    """Run the load, print "done", and wait."""
    deadline = time.monotonic() + float(sys.argv[1])
    rows, rounds = map(int, sys.argv[2:] or (1_000_000, sys.maxsize))
    seed = 0
    while time.monotonic() < deadline and seed < rounds:
        one_round(rows if seed % 3 == 0 else rows // 5, seed)
        seed += 1
    print("done", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
