# SPDX-License-Identifier: GPL-2.0-only
"""Memory that only the start needed, given back: a daemon runs for months.

Compilers (libclang, libLLVM, llvmlite) leave some 130 MiB of their text and constants
mapped, and free heap.
"""

import ctypes
import mmap
import re
from pathlib import Path

from tracer.procfs import parse_maps

__all__ = ("give_back", "keep_heap_small", "trim_heap")

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBRARY = re.compile(r"/.*\.so[.\d]*")


def keep_heap_small() -> None:
    """One arena for all threads, and arrays of their own mappings: what is freed goes back.

    Otherwise the threshold grows with what is freed (mallopt(3)), and arrays of processes
    that come and go leave holes in the heap: 261 MiB with 1,000 processes instead of 242.
    """
    _LIBC.mallopt(_M_ARENA_MAX, 1)
    _LIBC.mallopt(_M_MMAP_THRESHOLD, 64 << 10)


def give_back() -> None:
    """Let go of libraries' pages that are as they are on disk, and of free heap.

    What is needed after all comes back from the files.
    """
    for mapping in parse_maps(Path("/proc/self/smaps").read_text(errors="replace")):
        library = _LIBRARY.fullmatch(mapping.name) and not mapping.prot & mmap.PROT_WRITE
        # Relocated constants are not as on disk: those have anonymous pages.
        if library and mapping.anonymous_kib == 0:
            start, length = ctypes.c_void_p(mapping.start), mapping.end - mapping.start
            _LIBC.madvise(start, ctypes.c_size_t(length), mmap.MADV_DONTNEED)
    trim_heap()


def trim_heap() -> None:
    """Give back what is free in the heap."""
    _LIBC.malloc_trim(0)
