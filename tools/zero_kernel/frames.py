# SPDX-License-Identifier: GPL-2.0-only
"""Joins, groups and sorts in polars: the same rounds each time, after a line on stdin."""

import sys

from tools.workloads.frames import one_round

_ROWS, _ROUNDS = 200_000, 4


def main() -> None:
    """Wait for a line, work, print "done", and wait for another line."""
    one_round(_ROWS // 10, 0)
    sys.stdin.readline()
    for seed in range(_ROUNDS):
        one_round(_ROWS if seed % 3 == 0 else _ROWS // 5, seed)
    print("done", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
