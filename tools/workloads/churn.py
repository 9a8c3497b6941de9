# SPDX-License-Identifier: GPL-2.0-only
"""Threads that allocate, fill and free arrays in parallel, then stop.

This uses malloc from many threads: numpy allocates each array with malloc and fills it without
the interpreter lock. Run it under any allocator:

    LD_PRELOAD=libjemalloc.so.2 python -m tools.workloads.churn THREADS SECONDS

Prints "done" when the threads have ended, then waits for a line on stdin.
"""

import random
import sys
import threading
import time

import numpy as np
import numpy.typing as npt

_LIVE = 64
_SMALLEST, _LARGEST = 1 << 14, 1 << 21


def _churn(seed: int, deadline: float) -> None:
    chance = random.Random(seed)
    held: list[npt.NDArray[np.uint8]] = []
    while time.monotonic() < deadline:
        held.append(np.full(chance.randint(_SMALLEST, _LARGEST), 7, np.uint8))
        if len(held) > _LIVE:
            for _ in range(chance.randint(1, _LIVE)):
                held.pop(chance.randrange(len(held)))


def main() -> None:
    """Run the load, print "done", and wait."""
    threads, seconds = int(sys.argv[1]), float(sys.argv[2])
    deadline = time.monotonic() + seconds
    workers = [threading.Thread(target=_churn, args=(seed, deadline)) for seed in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print("done", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
