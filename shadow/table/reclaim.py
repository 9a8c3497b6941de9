# SPDX-License-Identifier: GPL-2.0-only
"""Changes that the kernel makes by itself: reclaim, and collapse and split of huge pages.

Sources: mm/rmap.c (try_to_unmap_one), mm/khugepaged.c (collapse_huge_page), mm/huge_memory.c
(__split_huge_pmd). No tracepoint reports them; probes on functions do, where available.
"""

from shadow.policy import Policy
from shadow.table.bits import clear_range
from shadow.table.compiled import compiled
from shadow.table.counters import Counter
from shadow.table.origin_codes import KIND_BITS, LAZYFREE
from shadow.table.pte_pages import clear_entries, has, make_huge
from shadow.table.radix import find, next_slot
from shadow.table.state import HUGE_ANON, State
from shadow.table.vmas import split_huge
from shadow.table.zap import free_huge, walker_visits

__all__ = ("collapse", "collapse_slot", "page_out", "reclaim", "split_slot")


@compiled
def page_out(s: State, record: int, start: int, end: int) -> None:
    """Reclaim a range: discard lazyfree pages; the others become swap entries."""
    walker_visits(s, record)
    low = (start & (s.slot - 1)) >> s.page_shift
    for entry in range(low, low + ((end - start) >> s.page_shift)):
        if s.records[record].lazies and clear_range(s.records[record].lazy, entry, entry + 1):
            s.records[record].lazies -= 1
            clear_entries(s, record, entry, entry + 1)
    # The rmap walk that discards the last lazyfree page frees the PTE page.
    walker_visits(s, record)


@compiled
def _unmap_folio(s: State, record: int, start: int, end: int, discarded: bool) -> None:
    low = (start & (s.slot - 1)) >> s.page_shift
    high = low + ((end - start) >> s.page_shift)
    if s.records[record].huge:
        if discarded and high - low == s.entries:
            free_huge(s, record)
            return
        if not split_huge(s, record):
            return
    walker_visits(s, record)
    if discarded:
        if s.records[record].lazies:
            s.counters[Counter.CALL] |= LAZYFREE << KIND_BITS
        clear_entries(s, record, low, high)
    else:  # written again since MADV_FREE
        s.records[record].lazies -= clear_range(s.records[record].lazy, low, high)
    walker_visits(s, record)


@compiled
def reclaim(s: State, start: int, end: int, discarded: bool) -> None:
    """Unmap one folio from [start, end); `discarded`: its entries become none."""
    slot = next_slot(s, start & -s.slot, end)
    while slot >= 0:
        _unmap_folio(s, find(s, slot), max(slot, start), min(slot + s.slot, end), discarded)
        slot = next_slot(s, slot + s.slot, end)


@compiled
def collapse(s: State, record: int) -> None:
    """Deposit the PTE page under a huge page (collapse_huge_page)."""
    if has(s, record, Policy.NONE):
        make_huge(s, record, HUGE_ANON)


@compiled
def collapse_slot(s: State, slot: int) -> None:
    """Turn the pages of a slot into a huge page, unless it is one already."""
    record = find(s, slot)
    if record and s.records[record].huge == 0:
        collapse(s, record)


@compiled
def split_slot(s: State, slot: int) -> None:
    """Split the huge page of a slot, unless an earlier event already did."""
    record = find(s, slot)
    if record and s.records[record].huge:
        split_huge(s, record)
