# SPDX-License-Identifier: GPL-2.0-only
"""MADV_FREE, MADV_PAGEOUT and reuse of what they left, on anonymous memory.

    python -m tools.workloads.advice SECONDS

Prints "done" when the time is over, then waits for a line on stdin.
"""

import mmap
import random
import sys
import time

_SIZE = 256 << 20
_PAGEOUT = 21


def main() -> None:
    """Run the load, print "done", and wait."""
    chance = random.Random(1)
    deadline = time.monotonic() + float(sys.argv[1])
    area = mmap.mmap(-1, _SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_NOHUGEPAGE)
    while time.monotonic() < deadline:
        start = chance.randrange(_SIZE >> 12) << 12
        length = min(chance.choice([1 << 12, 1 << 16, 1 << 20, 8 << 20]), _SIZE - start)
        advice = chance.choice([0, 0, mmap.MADV_FREE, _PAGEOUT, mmap.MADV_DONTNEED])
        if advice == 0:
            for page in range(start, start + length, 4096):
                area[page] = 1
        else:
            area.madvise(advice, start, length)
        time.sleep(0.002)
    print("done", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
