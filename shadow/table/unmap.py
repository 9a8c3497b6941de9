# SPDX-License-Identifier: GPL-2.0-only
"""munmap and calls that replace a mapping: clear entries, free tables between neighbours.

free_pgtables may free a table only if no remaining VMA overlaps its span, that is, if the
span lies between the end of the previous VMA (floor) and the start of the next one
(ceiling). So an empty PTE page can stay beside a neighbour (semantics D3, 27).

Sources: mm/vma.c (vms_clear_ptes), mm/memory.c (free_pgtables, free_pgd_range).
"""

from shadow.table.compiled import compiled, inlined
from shadow.table.counters import Counter
from shadow.table.guard_ranges import drop_guards
from shadow.table.pte_pages import clear_entries, has
from shadow.table.radix import (
    PMD_LEVEL,
    drop_empty_upper,
    find,
    free_record,
    next_slot,
    next_table,
    table_span,
)
from shadow.table.state import State
from shadow.table.vma import VmaFlag
from shadow.table.vmas import cut, first_overlap, remove_range, split_huge
from shadow.table.zap import free_huge, walker_visits

__all__ = ("detach", "unmap")

_NO_CEILING = 1 << 62


@compiled
def _zap_slots(s: State, start: int, end: int) -> None:
    """unmap_vmas for one VMA: a walker visits, but makes no attempt."""
    slot = next_slot(s, start & -s.slot, end)
    while slot >= 0:
        record = find(s, slot)
        first, last = max(slot, start), min(slot + s.slot, end)
        gone = False
        if s.records[record].huge:
            if last - first == s.slot:
                free_huge(s, record)
                gone = True
            else:
                gone = not split_huge(s, record)
        if not gone:
            walker_visits(s, record)
            low = (first & (s.slot - 1)) >> s.page_shift
            clear_entries(s, record, low, low + ((last - first) >> s.page_shift))
        slot = next_slot(s, slot + s.slot, end)


@compiled
def _free_slots(s: State, start: int, end: int, floor: int, ceiling: int) -> None:
    """free_pgtables for one VMA: free the PTE pages that lie between the neighbours."""
    slot = next_slot(s, start & -s.slot, end)
    while slot >= 0:
        if floor <= slot and slot + s.slot <= ceiling:
            record = find(s, slot)
            if has(s, record, s.counters[Counter.RUNNING]):
                s.counters[Counter.UNMAPPED] += 1
            free_record(s, record)
        slot = next_slot(s, slot + s.slot, end)


@compiled
def _free_upper(s: State, start: int, end: int, floor: int, ceiling: int) -> None:
    """Free the emptied PMD and PUD pages (and P4D pages) over [start, end)."""
    for level in range(PMD_LEVEL, s.counters[Counter.LEVELS]):
        span = table_span(s, level)
        at = next_table(s, start & -span, end, level)
        while at >= 0:
            drop_empty_upper(s, at, floor, ceiling)
            at = next_table(s, at + span, end, level)


@compiled
def unmap(s: State, start: int, end: int) -> None:
    """Remove all mappings of [start, end), as munmap and MAP_FIXED do."""
    if s.counters[Counter.VMAS_KNOWN] == 0:
        _zap_slots(s, start, end)
        _free_slots(s, start, end, start, end)
        _free_upper(s, start, end, start, end)
        return
    if s.counters[Counter.GUARDS]:
        drop_guards(s, start, end)
    v = first_overlap(s, start)
    if v == s.counters[Counter.VMAS] or s.vmas[v].start >= end:
        return
    cut(s, start)
    cut(s, end)
    first = first_overlap(s, start)
    last = first_overlap(s, end)
    floor = s.vmas[first - 1].end if first > 0 else 0
    ceiling = s.vmas[last].start if last < s.counters[Counter.VMAS] else _NO_CEILING
    for v in range(first, last):
        _zap_slots(s, s.vmas[v].start, s.vmas[v].end)
    for v in range(first, last):
        _free_slots(s, s.vmas[v].start, s.vmas[v].end, floor, ceiling)
        _free_upper(s, s.vmas[v].start, s.vmas[v].end, floor, ceiling)
    remove_range(s, start, end)


@inlined
def _in_place(s: State, v: int, address: int) -> bool:
    """Whether VMA v is at the position that a mapping of its file from `address` on gives it."""
    offset = (s.vmas[v].start - address) >> s.page_shift
    return s.vmas[v].flags & VmaFlag.SPECIAL != 0 and s.vmas[v].pgoff == offset


@compiled
def detach(s: State, address: int) -> None:
    """shmdt or io_destroy: unmap the mapping at `address`, as far as it has not moved.

    This includes parts that calls have split off; parts that have moved stay (ipc/shm.c,
    ksys_shmdt).
    """
    v = first_overlap(s, address)
    while v < s.counters[Counter.VMAS] and not _in_place(s, v, address):
        v += 1
    if v == s.counters[Counter.VMAS]:
        return
    file = s.vmas[v].file
    while v < s.counters[Counter.VMAS]:
        if s.vmas[v].file == file and _in_place(s, v, address):
            unmap(s, s.vmas[v].start, s.vmas[v].end)
        else:
            v += 1
