# SPDX-License-Identifier: GPL-2.0-only
"""Calls that change VMAs or many pages at once: mmap, mprotect, mlock, advice.

Sources: mm/mmap.c (do_mmap), mm/madvise.c (madvise_vma_behavior), mm/mlock.c.
"""

from shadow.events import MAP_FLAGS_SHIFT, NOT_CACHED, PARTLY, PKEY_SHIFT, SPECIAL, UNFILLED
from shadow.geometry import ENTRIES, PAGE_SHIFT, SLOT
from shadow.table.fault import populate
from shadow.table.guard_calls import guard
from shadow.table.jit import compiled
from shadow.table.labels import NOT_MERGEABLE, change_flags, set_label
from shadow.table.radix import find, next_slot
from shadow.table.reclaim import collapse, page_out
from shadow.table.state import Counter, LabelPart, State, VmaFlag
from shadow.table.unmap import unmap
from shadow.table.vmas import cut, first_overlap, insert, merge_around
from shadow.uapi import (
    MADV_COLLAPSE,
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MADV_HUGEPAGE,
    MADV_KEEPONFORK,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_NORMAL,
    MADV_PAGEOUT,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_UNMERGEABLE,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_SHARED,
    MAP_STACK,
    MCL_CURRENT,
    MCL_FUTURE,
    MCL_ONFAULT,
    MLOCK_ONFAULT,
)

__all__ = (
    "advise",
    "lock",
    "lock_all",
    "lock_fills",
    "map_range",
    "populates",
    "protect",
    "unlock",
)

_EVERYWHERE = 1 << 62

_NOT_ACCOUNTABLE = VmaFlag.SHARED | VmaFlag.NORESERVE | VmaFlag.HUGETLB
_ANY_KEY = 0x1F
_READ_PATTERN = VmaFlag.RANDOM | VmaFlag.SEQUENTIAL
_LOCKED = VmaFlag.LOCKED | VmaFlag.LOCKONFAULT
_ACCESS = VmaFlag.READ | VmaFlag.WRITE | VmaFlag.EXEC


@compiled
def populates(s: State, aux: int) -> bool:
    """Whether an mmap with this `aux` fills what it maps at once."""
    map_flags = aux >> MAP_FLAGS_SHIFT
    if aux & UNFILLED:
        return False
    if map_flags & MAP_LOCKED or s.counters[Counter.LOCK_FUTURE]:
        return True
    return map_flags & MAP_POPULATE != 0 and map_flags & MAP_NONBLOCK == 0


@compiled
def map_range(s: State, start: int, end: int, aux: int, file: int, pgoff: int) -> None:
    """mmap gave [start, end); whatever was there is replaced.

    Args:
        s: the address space.
        start: first address.
        end: the address after the last.
        aux: of the event.
        file: identity of the open file; 0: it is not known, or there is none.
        pgoff: offset in it, pages.
    """
    unmap(s, start, end)
    flags = aux & _ACCESS
    map_flags = aux >> MAP_FLAGS_SHIFT
    anonymous = map_flags & MAP_ANONYMOUS != 0
    if map_flags & MAP_SHARED:  # MAP_SHARED_VALIDATE has this bit, too
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
    if s.counters[Counter.MERGE_ANY] and flags & NOT_MERGEABLE == 0:
        flags |= VmaFlag.MERGEABLE
    if flags & (VmaFlag.WRITE | VmaFlag.SHARED | VmaFlag.NORESERVE) == VmaFlag.WRITE:
        flags |= VmaFlag.ACCOUNT
    if anonymous and flags & VmaFlag.SHARED == 0:
        file, pgoff = 0, start >> PAGE_SHIFT
    else:
        if not anonymous and aux & (NOT_CACHED | SPECIAL) == 0:
            flags |= VmaFlag.CACHED
        if anonymous or file == 0:
            s.counters[Counter.FILES] += 1
            file, pgoff = s.counters[Counter.FILES], 0
    insert(s, start, end, flags, file, pgoff, 0)
    if populates(s, aux):
        populate(s, start, end, False)


@compiled
def _first_hole(s: State, start: int, end: int) -> int:
    """Where the VMAs that begin at `start` without a hole end, at most `end`."""
    v = first_overlap(s, start)
    while start < end and v < s.counters[Counter.VMAS] and s.vmas[v].start <= start:
        start = s.vmas[v].end
        v += 1
    return min(start, end)


@compiled
def protect(s: State, start: int, end: int, aux: int) -> None:
    """mprotect; VM_ACCOUNT, and what locked memory does, as in mprotect_fixup (mm/mprotect.c)."""
    if aux & PARTLY:
        end = _first_hole(s, start, end)
    if start >= end:
        return
    key = (aux >> PKEY_SHIFT) & _ANY_KEY
    cut(s, start)
    cut(s, end)
    v = first_overlap(s, start)
    while v < s.counters[Counter.VMAS] and s.vmas[v].start < end:
        flags = s.vmas[v].flags & ~_ACCESS | aux & _ACCESS
        if flags & (VmaFlag.WRITE | _NOT_ACCOUNTABLE) == VmaFlag.WRITE:
            flags |= VmaFlag.ACCOUNT
        elif flags & VmaFlag.WRITE == 0 and s.vmas[v].file == 0 and s.vmas[v].anon == 0:
            flags &= ~VmaFlag.ACCOUNT
        wakes = s.vmas[v].flags & (VmaFlag.WRITE | VmaFlag.SHARED | _LOCKED) == VmaFlag.LOCKED
        s.vmas[v].flags = flags
        if key:
            set_label(s, v, LabelPart.PKEY, LabelPart.NAME, key - 1)
        if wakes and flags & VmaFlag.WRITE and aux & UNFILLED == 0:
            populate(s, s.vmas[v].start, s.vmas[v].end, False)
        v += 1
    merge_around(s, start, end)


@compiled
def _lock_vmas(s: State, start: int, end: int, on_fault: bool) -> None:
    if on_fault:
        change_flags(s, start, end, 0, VmaFlag.LOCKED | VmaFlag.LOCKONFAULT, 0)
    else:
        change_flags(s, start, end, VmaFlag.LOCKONFAULT, VmaFlag.LOCKED, 0)


@compiled
def lock_fills(length: int, flags: int) -> bool:
    """Whether an mlock, or with length 0 an mlockall, fills what it locks at once."""
    if flags & UNFILLED:
        return False
    if length:
        return flags & MLOCK_ONFAULT == 0
    return flags & (MCL_CURRENT | MCL_ONFAULT) == MCL_CURRENT


@compiled
def lock(s: State, start: int, end: int, flags: int) -> None:
    """mlock or mlock2 over a range; one that fails at a hole fills nothing."""
    done = _first_hole(s, start, end)
    if start < done:
        _lock_vmas(s, start, done, flags & MLOCK_ONFAULT != 0)
    if done == end and lock_fills(end - start, flags):
        populate(s, start, end, True)


@compiled
def lock_all(s: State, flags: int) -> None:
    """mlockall."""
    s.counters[Counter.LOCK_FUTURE] = flags & MCL_FUTURE
    if flags & MCL_CURRENT:
        _lock_vmas(s, 0, _EVERYWHERE, flags & MCL_ONFAULT != 0)
        if lock_fills(0, flags):
            populate(s, 0, _EVERYWHERE, False)


@compiled
def unlock(s: State, start: int, end: int, aux: int) -> None:
    """munlock over a range; munlockall where the range is empty."""
    if aux & PARTLY:
        end = _first_hole(s, start, end)
        if start == end:
            return
    elif end == start:
        s.counters[Counter.LOCK_FUTURE] = 0
        start, end = 0, _EVERYWHERE
    change_flags(s, start, end, VmaFlag.LOCKED | VmaFlag.LOCKONFAULT, 0, 0)


@compiled
def _for_slots(s: State, start: int, end: int, advice: int) -> None:
    slot = next_slot(s, start & -SLOT, end)
    while slot >= 0:
        record = find(s, slot)
        first, last = max(slot, start), min(slot + SLOT, end)
        if s.records[record].huge == 0:
            if advice == MADV_PAGEOUT:
                page_out(s, record, first, last)
            elif (last - first) >> PAGE_SHIFT == ENTRIES:
                collapse(s, record)
        slot = next_slot(s, slot + SLOT, end)


@compiled
def _for_vmas(s: State, start: int, end: int, advice: int) -> None:
    """MADV_PAGEOUT and MADV_COLLAPSE, VMA by VMA; the first stops at a locked one."""
    if s.counters[Counter.VMAS_KNOWN] == 0:
        _for_slots(s, start, end, advice)
        return
    v = first_overlap(s, start)
    while v < s.counters[Counter.VMAS] and s.vmas[v].start < end:
        if advice == MADV_PAGEOUT and s.vmas[v].flags & VmaFlag.LOCKED:
            return
        _for_slots(s, max(start, s.vmas[v].start), min(end, s.vmas[v].end), advice)
        v += 1


@compiled
def _flags_of(advice: int) -> tuple[int, int]:
    """The flags of a VMA that this advice clears and sets; both 0 where it is no such advice."""
    clear, add = 0, 0
    if advice == MADV_HUGEPAGE:
        clear, add = VmaFlag.NOHUGEPAGE, VmaFlag.HUGEPAGE
    elif advice == MADV_NOHUGEPAGE:
        clear, add = VmaFlag.HUGEPAGE, VmaFlag.NOHUGEPAGE
    elif advice == MADV_NORMAL:
        clear = _READ_PATTERN
    elif advice == MADV_RANDOM:
        clear, add = VmaFlag.SEQUENTIAL, VmaFlag.RANDOM
    elif advice == MADV_SEQUENTIAL:
        clear, add = VmaFlag.RANDOM, VmaFlag.SEQUENTIAL
    elif advice == MADV_DONTFORK:
        add = VmaFlag.DONTFORK
    elif advice == MADV_DOFORK:
        clear = VmaFlag.DONTFORK
    elif advice == MADV_WIPEONFORK:
        add = VmaFlag.WIPEONFORK
    elif advice == MADV_KEEPONFORK:
        clear = VmaFlag.WIPEONFORK
    elif advice == MADV_DONTDUMP:
        add = VmaFlag.DONTDUMP
    elif advice == MADV_DODUMP:
        clear = VmaFlag.DONTDUMP
    elif advice == MADV_MERGEABLE:
        add = VmaFlag.MERGEABLE
    elif advice == MADV_UNMERGEABLE:
        clear = VmaFlag.MERGEABLE
    return clear, add


@compiled
def advise(s: State, start: int, end: int, advice: int) -> None:
    """madvise with advice that is no zap."""
    clear, add = _flags_of(advice)
    if clear | add:
        but = NOT_MERGEABLE if add & VmaFlag.MERGEABLE else 0
        change_flags(s, start, end, clear, add, but)
    elif advice in (MADV_GUARD_INSTALL, MADV_GUARD_REMOVE):
        guard(s, start, end, advice)
    elif advice in (MADV_PAGEOUT, MADV_COLLAPSE):
        _for_vmas(s, start, end, advice)
