# SPDX-License-Identifier: GPL-2.0-only
"""madvise calls that are not zaps: VMA flags, guards, MADV_PAGEOUT and MADV_COLLAPSE.

Source: mm/madvise.c (madvise_vma_behavior).
"""

from shadow.table.compiled import compiled
from shadow.table.counters import Counter
from shadow.table.guard_calls import guard
from shadow.table.labels import NOT_MERGEABLE, change_flags
from shadow.table.radix import find, next_slot
from shadow.table.reclaim import collapse, page_out
from shadow.table.state import State
from shadow.table.vma import VmaFlag
from shadow.table.vmas import first_overlap
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
)

__all__ = ("advise",)

_READ_PATTERN = VmaFlag.RANDOM | VmaFlag.SEQUENTIAL


@compiled
def _for_slots(s: State, start: int, end: int, advice: int) -> None:
    slot = next_slot(s, start & -s.slot, end)
    while slot >= 0:
        record = find(s, slot)
        first, last = max(slot, start), min(slot + s.slot, end)
        if s.records[record].huge == 0:
            if advice == MADV_PAGEOUT:
                page_out(s, record, first, last)
            elif (last - first) >> s.page_shift == s.entries:
                collapse(s, record)
        slot = next_slot(s, slot + s.slot, end)


@compiled
def _for_vmas(s: State, start: int, end: int, advice: int) -> None:
    """MADV_PAGEOUT and MADV_COLLAPSE, VMA by VMA; MADV_PAGEOUT stops at a locked one."""
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
    """The VMA flags that this advice clears and sets; both are 0 for advice of another kind."""
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
    """Apply advice that is not a zap to [start, end)."""
    clear, add = _flags_of(advice)
    if clear | add:
        but = NOT_MERGEABLE if add & VmaFlag.MERGEABLE else 0
        change_flags(s, start, end, clear, add, but)
    elif advice in (MADV_GUARD_INSTALL, MADV_GUARD_REMOVE):
        guard(s, start, end, advice)
    elif advice in (MADV_PAGEOUT, MADV_COLLAPSE):
        _for_vmas(s, start, end, advice)
