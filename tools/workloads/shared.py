# SPDX-License-Identifier: GPL-2.0-only
"""Shared memory: filled, or filled and emptied through its file, so that PTE pages stay empty.

    python -m tools.workloads.shared MIB fill|punch

Prints "ready" and waits for a line. Then it writes to each page of a memfd, punches out all but
one page in each 16 MiB with `punch`, and prints "done". After that it discards the 2 MiB at each
address that it is sent, and prints how many of these pages still hold what it wrote. With
HUGETLB=1 in the environment the memfd is of huge pages.
"""

import ctypes
import mmap
import os
import sys

import numpy as np

_SLOT, _WITNESS = 2 << 20, 16 << 20
_PUNCH_HOLE, _KEEP_SIZE = 2, 1
_libc = ctypes.CDLL(None, use_errno=True)


def _punch(file: int, start: int, length: int) -> None:
    flags = _PUNCH_HOLE | _KEEP_SIZE
    if _libc.fallocate(file, flags, ctypes.c_long(start), ctypes.c_long(length)):
        raise OSError(ctypes.get_errno(), "fallocate")


def main() -> None:
    """Map, wait for a line, fill and empty, print "done", and obey."""
    length, punched = int(sys.argv[1]) << 20, sys.argv[2] == "punch"
    huge = os.environ.get("HUGETLB") == "1"
    file = os.memfd_create("shared", os.MFD_HUGETLB if huge else 0)
    os.ftruncate(file, length)
    area = mmap.mmap(file, length)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    pages = np.ctypeslib.as_array((ctypes.c_uint8 * length).from_address(start))
    print("ready", flush=True)
    sys.stdin.readline()
    pages[:: mmap.PAGESIZE] = 1
    for at in range(0, length, _WITNESS) if punched else ():
        _punch(file, at + mmap.PAGESIZE, min(_WITNESS, length - at) - mmap.PAGESIZE)
    print("done", flush=True)
    for line in sys.stdin:
        area.madvise(mmap.MADV_DONTNEED, int(line, 0) - start, _SLOT)
        print(sum(os.pread(file, 1, at) == b"\1" for at in range(0, length, _WITNESS)), flush=True)


if __name__ == "__main__":
    main()
