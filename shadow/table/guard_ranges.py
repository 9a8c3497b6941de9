# SPDX-License-Identifier: GPL-2.0-only
"""Guard markers: entries that map nothing but are not none.

MADV_GUARD_INSTALL zaps its range and puts a marker into every entry of it.
MADV_GUARD_REMOVE clears the markers and frees no table. All other zaps except munmap keep
the markers, and the kernel does not reclaim a slot that still has one. The shadow stores
markers as ranges, because guards are few and short.

Sources: mm/madvise.c (madvise_guard_install, is_valid_guard_vma), mm/memory.c
(zap_nonpresent_ptes, zap_drop_markers); since v6.13.
"""

from shadow.table.bits import clear_range, count_range
from shadow.table.compiled import compiled
from shadow.table.counters import Counter
from shadow.table.pte_pages import clear_entries
from shadow.table.state import State

__all__ = (
    "add_guard",
    "clear_but_guards",
    "clear_guards",
    "drop_guards",
    "end_of_guard",
    "move_guards",
    "next_guard",
    "unmark_guards",
)


@compiled
def guard_after(s: State, address: int) -> int:
    """Index of the first guard range that ends after `address` (may be one past the last)."""
    low, high = 0, s.counters[Counter.GUARDS]
    while low < high:
        middle = (low + high) >> 1
        if s.guards[middle, 1] > address:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def end_of_guard(s: State, address: int) -> int:
    """The end of the guard range that contains `address`; `address` itself if none does."""
    g = guard_after(s, address)
    if g < s.counters[Counter.GUARDS] and s.guards[g, 0] <= address:
        return s.guards[g, 1]
    return address


@compiled
def next_guard(s: State, start: int, end: int) -> int:
    """First address of the first guard in [start, end), or `end`."""
    g = guard_after(s, start)
    if g == s.counters[Counter.GUARDS]:
        return end
    return min(max(s.guards[g, 0], start), end)


@compiled
def drop_guards(s: State, start: int, end: int) -> None:
    """Remove the guard ranges in [start, end), without a change of the entries."""
    g = guard_after(s, start)
    while g < s.counters[Counter.GUARDS] and s.guards[g, 0] < end:
        first, last = s.guards[g, 0], s.guards[g, 1]
        if first < start:
            s.guards[g, 1] = start
            if last > end:
                add_guard(s, end, last)
                return
            g += 1
        elif last > end:
            s.guards[g, 0] = end
            return
        else:
            s.counters[Counter.GUARDS] -= 1
            for later in range(g, s.counters[Counter.GUARDS]):
                s.guards[later, 0] = s.guards[later + 1, 0]
                s.guards[later, 1] = s.guards[later + 1, 1]


@compiled
def add_guard(s: State, start: int, end: int) -> None:
    """Add the guard range [start, end), which overlaps no other; the array has room."""
    at = guard_after(s, start)
    for later in range(s.counters[Counter.GUARDS], at, -1):
        s.guards[later, 0] = s.guards[later - 1, 0]
        s.guards[later, 1] = s.guards[later - 1, 1]
    s.guards[at, 0], s.guards[at, 1] = start, end
    s.counters[Counter.GUARDS] += 1


@compiled
def move_guards(s: State, start: int, end: int, by: int) -> None:
    """Move the guard ranges of [start, end) with their entries (mremap)."""
    g = guard_after(s, start)
    while g < s.counters[Counter.GUARDS] and s.guards[g, 0] < end:
        first, last = max(s.guards[g, 0], start), min(s.guards[g, 1], end)
        drop_guards(s, first, last)
        add_guard(s, first + by, last + by)
        g = guard_after(s, last)


@compiled
def unmark_guards(s: State, record: int, start: int, end: int) -> None:
    """Clear the lazyfree bits of the markers in [start, end), in one slot."""
    g = guard_after(s, start)
    while g < s.counters[Counter.GUARDS] and s.guards[g, 0] < end:
        low = (max(s.guards[g, 0], start) & (s.slot - 1)) >> s.page_shift
        high = low + ((min(s.guards[g, 1], end) - max(s.guards[g, 0], start)) >> s.page_shift)
        s.records[record].lazies -= clear_range(s.records[record].lazy, low, high)
        g += 1


@compiled
def clear_guards(s: State, record: int, start: int, end: int) -> None:
    """Clear the markers in [start, end), in one slot."""
    g = guard_after(s, start)
    while g < s.counters[Counter.GUARDS] and s.guards[g, 0] < end:
        low = (max(s.guards[g, 0], start) & (s.slot - 1)) >> s.page_shift
        high = low + ((min(s.guards[g, 1], end) - max(s.guards[g, 0], start)) >> s.page_shift)
        clear_entries(s, record, low, high)
        g += 1


@compiled
def clear_but_guards(s: State, record: int, start: int, end: int) -> bool:
    """Clear the entries of [start, end), in one slot, but not markers; return if any is left."""
    left = False
    at = start
    slot = start & -s.slot
    g = guard_after(s, start)
    while g < s.counters[Counter.GUARDS] and s.guards[g, 0] < end:
        low = (max(s.guards[g, 0], start) - slot) >> s.page_shift
        high = (min(s.guards[g, 1], end) - slot) >> s.page_shift
        clear_entries(s, record, (at - slot) >> s.page_shift, low)
        left = left or count_range(s.records[record].present, low, high) > 0
        at = slot + (high << s.page_shift)
        g += 1
    clear_entries(s, record, (at - slot) >> s.page_shift, (end - slot) >> s.page_shift)
    return left
