# SPDX-License-Identifier: GPL-2.0-only
"""A prefork server: workers that read what their parent has written to shared memory.

    python -m tools.workloads.prefork MIB

WORKERS in the environment is their number. Prints "ready" and waits for a line. Then it fills the
memory, forks the workers, and prints "done" when each has read all. With HUGETLB=1 in the
environment the memory is of huge pages.
"""

import mmap
import os
import sys

_MAP_HUGETLB = 0x40000


def _work(area: mmap.mmap, answer: int, parent: int) -> None:
    for at in range(0, len(area), mmap.PAGESIZE):
        area[at]
    os.write(answer, b"x")
    os.read(parent, 1)  # returns when the parent has ended


def main() -> None:
    """Map, wait for a line, fill, fork, and print "done"."""
    length = int(sys.argv[1]) << 20
    huge = _MAP_HUGETLB if os.environ.get("HUGETLB") == "1" else 0
    area = mmap.mmap(-1, length, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | huge)
    print("ready", flush=True)
    sys.stdin.readline()
    for at in range(0, length, mmap.PAGESIZE):
        area[at] = 1
    answers, answer = os.pipe()
    parent, only_of_parent = os.pipe()
    for _ in range(int(os.environ["WORKERS"])):
        if os.fork() == 0:
            os.close(only_of_parent)
            _work(area, answer, parent)
            os._exit(0)
        os.read(answers, 1)
    print("done", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
