"""Memory that only the start needed, given back: a daemon runs for months.

The compilers of BPF (libbcc, libclang, libLLVM) and of the shadow table (llvmlite)
have left some 130 MiB of their text and constants mapped, and free heap.
"""

import ctypes
import re
from pathlib import Path

__all__ = ("give_back",)

_MADV_PAGEOUT = 21
_COMPILERS = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r.* \S*/lib(?:bcc|clang|LLVM|llvmlite)\S*$")


def give_back() -> None:
    """Let clean pages of the compilers' files go, and the heap's free ones.

    What is needed after all comes back from the files; pages that were written to
    stay (MADV_PAGEOUT), and a kernel that refuses costs nothing but memory.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.malloc_trim(0)
    for line in Path("/proc/self/maps").read_text().splitlines():
        if match := _COMPILERS.match(line):
            start, end = int(match[1], 16), int(match[2], 16)
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_PAGEOUT)
