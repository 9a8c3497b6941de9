# SPDX-License-Identifier: GPL-2.0-only
"""A program with faults that tracepoints do not show: pinned pages, and faults that fail.

The program prints the address of its memory and waits for a line. Then it makes the kernel pin
`PINNED` untouched pages, and makes a read past the end of a mapped file fail.
"""

import ctypes
import mmap
import os
import sys
import tempfile

from shadow.geometry import geometry_of_page

PINNED = 8
_PAGE, _NOHUGEPAGE = mmap.PAGESIZE, 15
_SLOT = geometry_of_page(_PAGE).slot


def _address(area: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(area))


def main() -> None:
    """Wait, act, wait."""
    libc = ctypes.CDLL(None)
    area = mmap.mmap(-1, 2 * _SLOT, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(_NOHUGEPAGE)
    start = (_address(area) + _SLOT - 1) & -_SLOT
    with tempfile.TemporaryFile() as file:
        file.truncate(2 * _PAGE)
        mapped = mmap.mmap(file.fileno(), 2 * _PAGE, mmap.MAP_PRIVATE)
        file.truncate(_PAGE)
        reader, writer = os.pipe()
        vector = (ctypes.c_ulong * 2)(start, PINNED * _PAGE)
        print(start, flush=True)
        sys.stdin.readline()
        assert libc.vmsplice(writer, vector, 1, 0) == PINNED * _PAGE
        os.read(reader, PINNED * _PAGE)
        past_the_end = ctypes.c_void_p(_address(mapped) + _PAGE)
        assert libc.write(writer, past_the_end, 1) == -1
        print("done", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    main()
