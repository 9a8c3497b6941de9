# SPDX-License-Identifier: GPL-2.0-only
"""A page-fault storm: touch every page, DONTNEED all, repeat.

For each line on stdin with a number of rounds, it runs these rounds and prints the nanoseconds
that they took. A round is `PAGES` faults and one madvise.
"""

import mmap
import subprocess
import sys
import time
from typing import IO

import numpy as np

__all__ = ("PAGES", "Storm")

PAGES = 16384


def _main() -> None:
    area = mmap.mmap(-1, PAGES * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_NOHUGEPAGE)
    pages = np.frombuffer(area, np.uint8)[:: mmap.PAGESIZE]
    for line in sys.stdin:
        begin = time.monotonic_ns()
        for _ in range(int(line)):
            pages[:] = 1
            area.madvise(mmap.MADV_DONTNEED)
        print(time.monotonic_ns() - begin, flush=True)


class Storm:
    """A handle on a running storm."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        self.start(1)
        self.answer.readline()

    def start(self, rounds: int) -> None:
        """Start this number of rounds; `answer` is readable when they are done."""
        assert self._process.stdin
        self._process.stdin.write(f"{rounds}\n")
        self._process.stdin.flush()

    @property
    def answer(self) -> IO[str]:
        """The stream on which the storm prints nanoseconds."""
        assert self._process.stdout
        return self._process.stdout

    def close(self) -> None:
        """End the storm."""
        self._process.kill()
        self._process.communicate()


if __name__ == "__main__":
    _main()
