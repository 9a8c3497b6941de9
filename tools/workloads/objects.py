# SPDX-License-Identifier: GPL-2.0-only
"""A Python program that makes many objects, drops most of them, and rests, in rounds.

    python -m tools.workloads.objects ROUNDS [trim]

CPython keeps small objects in arenas of 1 MiB, and unmaps each arena that becomes empty. With
PYTHONMALLOC=malloc in the environment the C library keeps them; `trim` then has glibc return free
memory after each round, as services in Python do. Waits for a line on stdin, runs, prints "done",
and waits for another line.
"""

import ctypes
import random
import sys
import time

_OBJECTS, _SMALLEST, _LARGEST = 150_000, 16, 480
_KEPT = 20
"""The first of so many parts of the objects survives its round."""
_REST = 3.0


def _round(chance: random.Random) -> list[bytes]:
    """Make objects; returns the few that stay."""
    made = [bytes(chance.randint(_SMALLEST, _LARGEST)) for _ in range(_OBJECTS)]
    return made[: _OBJECTS // _KEPT]


def main() -> None:
    """Wait for a line, run, print "done", and wait."""
    rounds, trims = int(sys.argv[1]), sys.argv[2:] == ["trim"]
    libc, chance = ctypes.CDLL(None), random.Random(1)
    sys.stdin.readline()
    kept: list[list[bytes]] = []
    for _ in range(rounds):
        kept.append(_round(chance))
        if trims:
            libc.malloc_trim(0)
        time.sleep(_REST)
    print("done", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
