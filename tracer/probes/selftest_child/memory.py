# SPDX-License-Identifier: GPL-2.0-only
"""Faults, and calls that change or empty mappings."""

import ctypes
import mmap
import os
from collections.abc import Callable

from shadow.uapi import (
    MADV_DONTNEED,
    MADV_FREE,
    MCL_FUTURE,
    MCL_ONFAULT,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
)
from tracer.probes.selftest_child.calls import PAGE, SLOT, Seen, call, libc, map_area, touch

__all__ = ("MEMORY_ACTS",)


def _page_fault(at: int) -> Seen:
    touch(at)
    reader, writer = os.pipe()
    os.write(writer, b"x")
    libc.read(reader, ctypes.c_void_p(at + PAGE), 1)  # a fault in kernel mode
    return [("FAULT", at), ("FAULT", at + PAGE)]


def _madvise(at: int) -> Seen:
    touch(at, 2)
    call("madvise", at, PAGE, MADV_DONTNEED)
    call("madvise", at + PAGE, PAGE, MADV_FREE)
    return [("DONTNEED", at), ("FREE", at + PAGE)]


def _process_madvise(at: int) -> Seen:
    touch(at)
    vector = (ctypes.c_ulong * 2)(at, PAGE)
    me = call("pidfd_open", os.getpid(), 0)
    call("process_madvise", me, ctypes.addressof(vector), 1, MADV_DONTNEED, 0)
    return [("DONTNEED", at)]


def _munmap(at: int) -> Seen:
    call("munmap", at, SLOT)
    return [("UNMAP_BEGIN", at), ("UNMAP", at)]


def _mremap(at: int) -> Seen:
    call("mremap", at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + SLOT)
    return [("REMAP_FROM", at), ("REMAP_TO", at + SLOT)]


def _brk(_at: int) -> Seen:
    end = call("brk", 0)
    return [("BRK", end)]


def _protect(name: str, *more: int) -> Callable[[int], Seen]:
    def act(at: int) -> Seen:
        call(name, at, PAGE, mmap.PROT_READ, *more)
        return [("PROTECT", at)]

    return act


def _lock(name: str, *more: int) -> Callable[[int], Seen]:
    def act(at: int) -> Seen:
        call(name, at, PAGE, *more)
        return [("LOCK", at)]

    return act


def _munlock(at: int) -> Seen:
    call("munlock", at, PAGE)
    return [("UNLOCK", at)]


def _mlockall(_at: int) -> Seen:
    call("mlockall", MCL_FUTURE | MCL_ONFAULT)
    return [("LOCK", 0)]


def _munlockall(_at: int) -> Seen:
    call("munlockall")
    return [("UNLOCK", 0)]


def _fork(_at: int) -> Seen:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return [("FORK", child)]


MEMORY_ACTS: dict[str, Callable[[int], Seen]] = {
    "page fault": _page_fault,
    "madvise": _madvise,
    "process_madvise": _process_madvise,
    "munmap": _munmap,
    "mmap": lambda at: [("MAP", map_area(at))],
    "mremap": _mremap,
    "brk": _brk,
    "mprotect": _protect("mprotect"),
    "pkey_mprotect": _protect("pkey_mprotect", (1 << 64) - 1),
    "mlock": _lock("mlock"),
    "mlock2": _lock("mlock2", 0),
    "munlock": _munlock,
    "mlockall": _mlockall,
    "munlockall": _munlockall,
    "fork": _fork,
}
"""Actions that provoke the events of each source, each in its own memory area."""
