"""A polars program: joins, groups and sorts that grow and shrink.

    python -m tools.workloads.frames SECONDS

polars brings its own jemalloc, linked into its extension. Prints "done" when
the time is over, then waits for a line on stdin.
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
    """Work, say so, wait to be ended."""
    deadline = time.monotonic() + float(sys.argv[1])
    seed = 0
    while time.monotonic() < deadline:
        _round(1_000_000 if seed % 3 == 0 else 200_000, seed)
        seed += 1
    print("done", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
