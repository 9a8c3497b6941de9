# SPDX-License-Identifier: GPL-2.0-only
"""A process with a great many PTE pages: one touched page in each slot.

    python -m tools.workloads.sparse SLOTS

Prints "done" once it has touched them, then waits for a line on stdin. A million
slots span 2 TiB of address space and take 8 GiB: half pages, half page tables.
"""

import ctypes
import mmap
import sys

import numpy as np

_SLOT = 2 << 20
_NORESERVE = 0x4000


def main() -> None:
    """Map, touch, print "done", and wait."""
    length = int(sys.argv[1]) * _SLOT
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
    area = mmap.mmap(-1, length, flags)
    area.madvise(mmap.MADV_NOHUGEPAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    pages = np.ctypeslib.as_array((ctypes.c_uint8 * length).from_address(start))
    pages[-start % _SLOT :: _SLOT] = 1
    print("done", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
