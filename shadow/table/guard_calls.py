# SPDX-License-Identifier: GPL-2.0-only
"""MADV_GUARD_INSTALL and MADV_GUARD_REMOVE.

Source: mm/madvise.c (madvise_guard_install, madvise_guard_remove, is_valid_guard_vma);
since v6.13.
"""

from shadow.table.bits import count_range
from shadow.table.compiled import compiled
from shadow.table.counters import Counter
from shadow.table.fault import ALL_POLICIES, table_for
from shadow.table.guard_ranges import add_guard, clear_guards, drop_guards, end_of_guard, next_guard
from shadow.table.pte_pages import set_entries
from shadow.table.radix import find, next_slot
from shadow.table.state import State
from shadow.table.vma import VmaFlag
from shadow.table.vmas import first_overlap, give_anon_vma
from shadow.table.zap import walker_visits, zap_piece
from shadow.uapi import MADV_GUARD_INSTALL

__all__ = ("guard",)


@compiled
def _maps_anything(s: State, start: int, end: int) -> bool:
    """Whether any entry of [start, end) is not none and no marker."""
    slot = next_slot(s, start & -s.slot, end)
    while slot >= 0:
        record = find(s, slot)
        if s.records[record].huge:
            return True
        at, last = max(slot, start), min(slot + s.slot, end)
        while at < last:
            stop = next_guard(s, at, last)
            low, high = (at - slot) >> s.page_shift, (stop - slot) >> s.page_shift
            if count_range(s.records[record].present, low, high):
                return True
            at = end_of_guard(s, stop)
        slot = next_slot(s, slot + s.slot, end)
    return False


@compiled
def _install(s: State, v: int, start: int, end: int) -> None:
    """In one VMA: zap the entries, without the rules of DONTNEED, and set markers."""
    if _maps_anything(s, start, end):
        zap_piece(s, start, end, False)
    if s.vmas[v].flags & VmaFlag.SHARED == 0:
        give_anon_vma(s, v)
    for slot in range(start & -s.slot, end, s.slot):
        record = table_for(s, slot, ALL_POLICIES)
        low = (max(slot, start) - slot) >> s.page_shift
        set_entries(s, record, low, (min(slot + s.slot, end) - slot) >> s.page_shift)
    drop_guards(s, start, end)
    add_guard(s, start, end)


@compiled
def _remove(s: State, start: int, end: int) -> None:
    """In one VMA: clear the markers; PTE pages stay."""
    slot = next_slot(s, start & -s.slot, end)
    while slot >= 0:
        record = find(s, slot)
        walker_visits(s, record)
        clear_guards(s, record, max(slot, start), min(slot + s.slot, end))
        slot = next_slot(s, slot + s.slot, end)
    drop_guards(s, start, end)


@compiled
def guard(s: State, start: int, end: int, advice: int) -> None:
    """Apply either call, VMA by VMA, up to the first VMA that refuses."""
    refuses = VmaFlag.HUGETLB | (VmaFlag.LOCKED if advice == MADV_GUARD_INSTALL else 0)
    v = first_overlap(s, start)
    while v < s.counters[Counter.VMAS] and s.vmas[v].start < end:
        if s.vmas[v].flags & refuses:
            return
        first, last = max(start, s.vmas[v].start), min(end, s.vmas[v].end)
        if advice == MADV_GUARD_INSTALL:
            _install(s, v, first, last)
        else:
            _remove(s, first, last)
        v += 1
