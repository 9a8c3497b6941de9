# SPDX-License-Identifier: GPL-2.0-only
"""mmap: a new mapping, which replaces existing ones in its range.

Source: mm/mmap.c (do_mmap).
"""

from shadow.events import MAP_FLAGS_SHIFT, NOT_CACHED, SPECIAL, UNFILLED
from shadow.table.compiled import compiled
from shadow.table.counters import Counter
from shadow.table.fault import populate
from shadow.table.labels import DROPPABLE, NOT_MERGEABLE
from shadow.table.state import State
from shadow.table.unmap import unmap
from shadow.table.vma import VmaFlag
from shadow.table.vmas import insert
from shadow.uapi import (
    MAP_ANONYMOUS,
    MAP_DROPPABLE,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_SHARED,
    MAP_STACK,
)

__all__ = ("map_range", "populates")

_ACCESS = VmaFlag.READ | VmaFlag.WRITE | VmaFlag.EXEC
_TYPE = 15  # MAP_TYPE, include/uapi/linux/mman.h


@compiled
def populates(s: State, aux: int) -> bool:
    """Whether an mmap with this `aux` fills its range at once."""
    map_flags = aux >> MAP_FLAGS_SHIFT
    if aux & UNFILLED:
        return False
    if map_flags & MAP_LOCKED or s.counters[Counter.LOCK_FUTURE]:
        return True
    return map_flags & MAP_POPULATE != 0 and map_flags & MAP_NONBLOCK == 0


@compiled
def _flags_of(s: State, aux: int) -> int:
    """The flags of the VMA that an mmap with this `aux` creates."""
    flags = aux & _ACCESS
    map_flags = aux >> MAP_FLAGS_SHIFT
    if map_flags & MAP_SHARED:  # MAP_SHARED_VALIDATE also has this bit
        flags |= VmaFlag.SHARED
    if map_flags & MAP_GROWSDOWN:
        flags |= VmaFlag.GROWSDOWN
    if map_flags & MAP_HUGETLB:
        flags |= VmaFlag.HUGETLB
    if map_flags & MAP_LOCKED or s.counters[Counter.LOCK_FUTURE]:
        flags |= VmaFlag.LOCKED
    if map_flags & MAP_NORESERVE:
        flags |= VmaFlag.NORESERVE
    if map_flags & MAP_STACK:
        flags |= VmaFlag.NOHUGEPAGE
    if aux & SPECIAL:
        flags |= VmaFlag.SPECIAL
    if map_flags & _TYPE == MAP_DROPPABLE:
        flags |= DROPPABLE
    elif s.counters[Counter.MERGE_ANY] and flags & NOT_MERGEABLE == 0:
        flags |= VmaFlag.MERGEABLE
    if flags & (VmaFlag.WRITE | VmaFlag.SHARED | VmaFlag.NORESERVE) == VmaFlag.WRITE:
        flags |= VmaFlag.ACCOUNT
    return flags


@compiled
def map_range(s: State, start: int, end: int, aux: int, file: int, pgoff: int) -> None:
    """Apply an mmap that returned [start, end), and unmap the range first.

    Args:
        s: the address space.
        start: first address.
        end: the address after the last.
        aux: the `aux` of the event.
        file: identity of the open file; 0: unknown or none.
        pgoff: offset in the file, pages.
    """
    unmap(s, start, end)
    flags = _flags_of(s, aux)
    anonymous = (aux >> MAP_FLAGS_SHIFT) & MAP_ANONYMOUS != 0
    if anonymous and flags & VmaFlag.SHARED == 0:
        file, pgoff = 0, start >> s.page_shift
    else:
        if not anonymous and aux & (NOT_CACHED | SPECIAL) == 0:
            flags |= VmaFlag.CACHED
        if anonymous or file == 0:
            s.counters[Counter.FILES] += 1
            file, pgoff = s.counters[Counter.FILES], 0
    insert(s, start, end, flags, file, pgoff, 0)
    if populates(s, aux):
        populate(s, start, end, False)
