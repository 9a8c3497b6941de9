# SPDX-License-Identifier: GPL-2.0-only
"""The example of the RFC's cover letter: map, then touch and discard 2 MiB at a time.

    python -m tools.workloads.cover GIB PURGE_KIB

Waits for a line, runs, prints "done", and waits for another line. It touches each 2 MiB in full and
discards it in calls of PURGE_KIB.
"""

import ctypes
import mmap
import sys

import numpy as np

_SLOT = 2 << 20
_NORESERVE = 0x4000


def main() -> None:
    """Map, wait for a line, touch and discard, print "done", and wait."""
    length, purge = int(sys.argv[1]) << 30, int(sys.argv[2]) << 10
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
    area = mmap.mmap(-1, length + _SLOT, flags)
    area.madvise(mmap.MADV_NOHUGEPAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    first = -start % _SLOT
    pages = np.ctypeslib.as_array((ctypes.c_uint8 * len(area)).from_address(start))
    sys.stdin.readline()
    for slot in range(first, first + length, _SLOT):
        pages[slot : slot + _SLOT : mmap.PAGESIZE] = 1
        for at in range(slot, slot + _SLOT, purge):
            area.madvise(mmap.MADV_DONTNEED, at, purge)
    print("done", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
