# SPDX-License-Identifier: GPL-2.0-only
"""Changes to page tables that the kernel makes by itself."""

import ctypes
import os
from collections.abc import Callable

from shadow.uapi import MADV_COLLAPSE, MADV_FREE, MADV_HUGEPAGE, MADV_PAGEOUT
from tracer.probes.selftest_child.calls import (
    AREA,
    FIXED_SHARED,
    PAGE,
    READ_WRITE,
    SLOT,
    Seen,
    call,
    libc,
    touch,
)

__all__ = ("PAGE_TABLE_ACTS",)

_DEFERRED = 1  # shadow.events.DEFERRED; that module needs numpy


def _made(at: int) -> Seen:
    touch(at)
    return [("PTE_ALLOC", 0)]


def _freed(at: int) -> Seen:
    touch(at)
    call("munmap", at, AREA)
    return [("PTE_FREE", 0, 0)]


def _deferred(at: int) -> Seen:
    file = os.memfd_create("ptescope")
    os.ftruncate(file, SLOT)
    call("mmap", at, SLOT, READ_WRITE, FIXED_SHARED, file, 0)
    touch(at, 8)
    call("madvise", at, SLOT, MADV_COLLAPSE)
    return [("PTE_FREE", 0, _DEFERRED)]


def _collapse(at: int) -> Seen:
    touch(at, 8)
    call("madvise", at, SLOT, MADV_HUGEPAGE)
    call("madvise", at, SLOT, MADV_COLLAPSE)
    return [("COLLAPSE", at)]


def _split(at: int) -> Seen:
    _collapse(at)
    call("munmap", at + PAGE, PAGE)
    return [("SPLIT", at)]


def _reclaim(at: int) -> Seen:
    touch(at, 64)
    call("madvise", at, SLOT, MADV_FREE)
    call("madvise", at, SLOT, MADV_PAGEOUT)
    resident = (ctypes.c_ubyte * 64)()
    libc.mincore(ctypes.c_void_p(at), ctypes.c_size_t(64 * PAGE), resident)
    gone = [at + page * PAGE for page in range(64) if not resident[page] & 1]
    if not gone:
        raise OSError(0, "the kernel did not reclaim the pages")
    return [("RECLAIM", gone[0])]


PAGE_TABLE_ACTS: dict[str, Callable[[int], Seen]] = {
    "PTE page made": _made,
    "PTE page freed": _freed,
    "PTE page freed by RCU": _deferred,
    "huge page split": _split,
    "huge page collapse": _collapse,
    "reclaim": _reclaim,
}
"""Actions that provoke the events of each source, each in its own memory area."""
