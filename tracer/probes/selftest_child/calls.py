# SPDX-License-Identifier: GPL-2.0-only
"""System calls of the child, and memory for them."""

import ctypes
import mmap
import os

from shadow.uapi import MAP_FIXED
from tracer.arch import running

__all__ = (
    "AREA",
    "BASE",
    "FIXED_SHARED",
    "PAGE",
    "READ_WRITE",
    "SLOT",
    "Seen",
    "call",
    "libc",
    "map_area",
    "shared_file",
    "touch",
    "words",
)

PAGE = mmap.PAGESIZE
SLOT = PAGE * PAGE // 8
"""The entries of a PTE page have 8 bytes and fill it."""
BASE = 1 << 38
AREA = 2 * SLOT
READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
FIXED_SHARED = MAP_FIXED | mmap.MAP_SHARED
_FIXED_ANONYMOUS = MAP_FIXED | mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
Seen = list[tuple[str, int] | tuple[str, int, int]]
"""Expected events: name of the kind, address and, if it matters, aux."""
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def call(name: str, *arguments: int) -> int:
    """Make a system call.

    Raises:
        OSError: the call failed.
    """
    result: int = libc.syscall(
        running().calls[name], *(ctypes.c_ulong(value) for value in arguments)
    )
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def map_area(at: int) -> int:
    """Map `AREA` bytes of anonymous memory at this address."""
    no_file = (1 << 64) - 1
    return call("mmap", at, AREA, READ_WRITE, _FIXED_ANONYMOUS, no_file, 0)


def touch(at: int, pages: int = 1) -> None:
    """Write to the first byte of each page."""
    for page in range(pages):
        ctypes.memset(at + page * PAGE, 1, 1)


def words(*values: int) -> "ctypes.Array[ctypes.c_ulong]":
    """An array of 64-bit words in memory, for arguments that are addresses."""
    return (ctypes.c_ulong * len(values))(*values)


def shared_file(at: int) -> int:
    """Map a new memory file at this address, and touch it."""
    file = os.memfd_create("ptescope")
    os.ftruncate(file, SLOT)
    call("mmap", at, SLOT, READ_WRITE, FIXED_SHARED, file, 0)
    touch(at)
    return file
