# SPDX-License-Identifier: GPL-2.0-only
"""fork: the initial address space of a child.

fork copies the tables of VMAs with an anon_vma, including empty PTE pages (semantics D3,
38-40 and 62); faults fill the other VMAs again.

Sources: mm/mmap.c (dup_mmap), mm/memory.c (copy_page_range, vma_needs_copy).
"""

from shadow.events import Kind
from shadow.policy import POLICIES
from shadow.table.compiled import compiled, entry
from shadow.table.counters import Counter
from shadow.table.guard_ranges import add_guard
from shadow.table.origin import note_call
from shadow.table.pte_pages import allocate, copy_entries, has, make_huge
from shadow.table.radix import (
    PMD_LEVEL,
    create_upper,
    find,
    find_or_create,
    next_slot,
    next_table,
    table_span,
    upper_table,
)
from shadow.table.state import HUGE_ANON, State
from shadow.table.vma import LEFT_BEHIND, VmaFlag

__all__ = ("copy_address_space",)

_POLICIES = len(POLICIES)
_NOT_INHERITED = VmaFlag.LOCKED | VmaFlag.LOCKONFAULT | LEFT_BEHIND

_INHERITED = (
    *(Counter.VMAS_KNOWN, Counter.NOW, Counter.BRK),
    *(Counter.ANON_VMAS, Counter.FILES, Counter.MERGE_ANY),
)


@compiled
def _copy_upper(parent: State, child: State, start: int, end: int) -> None:
    """Copy the upper tables over [start, end), including those with nothing below them."""
    for level in range(PMD_LEVEL, parent.counters[Counter.LEVELS]):
        span = table_span(parent, level)
        at = next_table(parent, start & -span, end, level)
        while at >= 0:
            if parent.upper[upper_table(parent, at, level)].real:
                create_upper(child, at, level, True)
            at = next_table(parent, at + span, end, level)


@compiled
def _copy_record(parent: State, child: State, source: int, start: int, end: int) -> None:
    """Copy the part [start, end) of one slot."""
    if parent.records[source].huge:
        # Faults map a file's huge page again (copy_huge_pmd).
        if parent.records[source].huge == HUGE_ANON and end - start == parent.slot:
            make_huge(child, find_or_create(child, start, True), HUGE_ANON)
        return
    real = has(parent, source, parent.counters[Counter.RUNNING])
    target = find_or_create(child, start, real)
    low = (start & (parent.slot - 1)) >> parent.page_shift
    high = low + ((end - start) >> parent.page_shift)
    for policy in range(_POLICIES):
        if has(parent, source, policy) and not has(child, target, policy):
            allocate(child, target, policy)
    copy_entries(
        child, target, parent.records[source].present, parent.records[source].lazy, low, high
    )


@compiled
def _copy_tables(parent: State, child: State, start: int, end: int) -> None:
    """copy_page_range for one VMA."""
    _copy_upper(parent, child, start, end)
    slot = next_slot(parent, start & -parent.slot, end)
    while slot >= 0:
        first, last = max(slot, start), min(slot + parent.slot, end)
        _copy_record(parent, child, find(parent, slot), first, last)
        slot = next_slot(parent, slot + parent.slot, end)


@compiled
def _copy_guards(parent: State, child: State, start: int, end: int) -> None:
    for g in range(parent.counters[Counter.GUARDS]):
        first, last = max(parent.guards[g, 0], start), min(parent.guards[g, 1], end)
        if first < last:
            add_guard(child, first, last)


@entry
def copy_address_space(parent: State, child: State) -> None:
    """dup_mmap: fill the new address space `child`; its arrays are as long as the parent's."""
    for counter in _INHERITED:
        child.counters[counter] = parent.counters[counter]
    note_call(child, Kind.FORK, 0, 0, 0)
    for v in range(parent.counters[Counter.VMAS]):
        flags = parent.vmas[v].flags
        if flags & VmaFlag.DONTFORK:
            continue
        copy = child.counters[Counter.VMAS]
        child.counters[Counter.VMAS] += 1
        child.vmas[copy] = parent.vmas[v]
        child.vmas[copy].flags = flags & ~_NOT_INHERITED
        if flags & VmaFlag.WIPEONFORK:
            child.vmas[copy].flags &= ~VmaFlag.FORKED
            child.vmas[copy].anon = 0
        elif parent.vmas[v].anon:
            _copy_guards(parent, child, parent.vmas[v].start, parent.vmas[v].end)
            child.counters[Counter.ANON_VMAS] += 1
            child.vmas[copy].flags |= VmaFlag.FORKED
            child.vmas[copy].anon = child.counters[Counter.ANON_VMAS]
            _copy_tables(parent, child, parent.vmas[v].start, parent.vmas[v].end)
