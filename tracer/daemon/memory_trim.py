# SPDX-License-Identifier: GPL-2.0-only
"""Give back memory that only the start needs, because a daemon runs for months.

Libraries that only the start uses leave text and constants resident, and free heap.
"""

import ctypes
import mmap
import re
from pathlib import Path

from tracer.procfs import parse_maps

__all__ = ("give_back", "keep_heap_small", "trim_heap")

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_ARRAY_BYTES = 16 << 10
"""The size from which on an array has a mapping; a process has three or four such arrays."""
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBRARY = re.compile(r"/.*\.so[.\d]*")


def keep_heap_small() -> None:
    """Use one arena for all threads and a mapping for each array, so that freed memory goes back.

    By default, malloc's mmap threshold grows with the size of freed blocks (mallopt(3)), and the
    arrays of ended processes leave holes in the heap. Besides, the unused end of an array that has
    a mapping takes no memory: 120 KiB for each process of 300 PTE pages, not 140 as with 64 KiB.
    """
    _LIBC.mallopt(_M_ARENA_MAX, 1)
    _LIBC.mallopt(_M_MMAP_THRESHOLD, _ARRAY_BYTES)


def give_back() -> None:
    """Drop clean pages of library files, and free heap.

    The kernel reads dropped pages from the files again if they are needed.
    """
    for mapping in parse_maps(Path("/proc/self/smaps").read_text(errors="replace")):
        library = _LIBRARY.fullmatch(mapping.name) and not mapping.prot & mmap.PROT_WRITE
        # Relocated constants differ from the file, so their pages are anonymous.
        if library and mapping.anonymous_kib == 0:
            start, length = ctypes.c_void_p(mapping.start), mapping.end - mapping.start
            _LIBC.madvise(start, ctypes.c_size_t(length), mmap.MADV_DONTNEED)
    trim_heap()


def trim_heap() -> None:
    """Give free heap back to the kernel."""
    _LIBC.malloc_trim(0)
