# SPDX-License-Identifier: GPL-2.0-only
"""PTE page records: their entries, and the policies that have the PTE page.

All changes of `refs`, `live` and `lazies` use these functions. So the counters per policy
(PTE pages, empty ones, peak) are correct after every event without a pass over the records.
"""

from shadow.policy import POLICIES
from shadow.table.bits import Map, clear_range, copy_range, count_range, set_bit, set_range
from shadow.table.compiled import compiled, inlined
from shadow.table.counters import Counter
from shadow.table.origin import note_emptied, note_made
from shadow.table.state import HUGE_ANON, State

__all__ = (
    "allocate",
    "clear_entries",
    "copy_entries",
    "drop_all_policies",
    "forget_entries",
    "give_all_policies",
    "has",
    "make_huge",
    "release",
    "replace_entries",
    "set_entries",
    "set_entry",
)

_POLICIES = len(POLICIES)


@compiled
def has(s: State, record: int, policy: int) -> bool:
    """Whether `policy` has this PTE page now."""
    return (s.records[record].live >> policy) & 1 != 0


@compiled
def allocate(s: State, record: int, policy: int) -> None:
    """`policy` allocates the PTE page (pte_alloc_one)."""
    s.records[record].live |= 1 << policy
    s.counters[Counter.TABLES + policy] += 1
    if policy == s.counters[Counter.RUNNING]:
        note_made(s, record)
    pages = s.counters[Counter.TABLES + policy]
    if pages > s.counters[Counter.PEAK + policy]:
        s.counters[Counter.PEAK + policy] = pages
    if s.records[record].refs == 0:
        s.counters[Counter.EMPTY + policy] += 1


@compiled
def release(s: State, record: int, policy: int) -> None:
    """`policy` frees the PTE page."""
    s.records[record].live &= ~(1 << policy)
    s.counters[Counter.TABLES + policy] -= 1
    if s.records[record].refs == 0:
        s.counters[Counter.EMPTY + policy] -= 1


@compiled
def give_all_policies(s: State, record: int) -> None:
    """Allocate this PTE page under every policy that lacks it."""
    for policy in range(_POLICIES):
        if not has(s, record, policy):
            allocate(s, record, policy)


@compiled
def drop_all_policies(s: State, record: int) -> None:
    """Free this PTE page under every policy that has it."""
    for policy in range(_POLICIES):
        if has(s, record, policy):
            release(s, record, policy)


@compiled
def _count_empty(s: State, record: int, change: int) -> None:
    for policy in range(_POLICIES):
        if has(s, record, policy):
            s.counters[Counter.EMPTY + policy] += change


@compiled
def _count_added(s: State, record: int, added: int) -> None:
    if added:
        if s.records[record].refs == 0:
            _count_empty(s, record, -1)
        s.records[record].refs += added
        s.counters[Counter.REFS] += added


@compiled
def set_entries(s: State, record: int, low: int, high: int) -> None:
    """Set entries [low, high), not lazyfree."""
    added = set_range(s.records[record].present, low, high)
    if s.records[record].lazies:
        s.records[record].lazies -= clear_range(s.records[record].lazy, low, high)
    _count_added(s, record, added)


@compiled
def copy_entries(s: State, record: int, present: Map, lazy: Map, low: int, high: int) -> None:
    """Set the entries of [low, high) that `present` has, lazyfree as in `lazy`."""
    added = copy_range(s.records[record].present, present, low, high)
    s.records[record].lazies += copy_range(s.records[record].lazy, lazy, low, high)
    _count_added(s, record, added)


@inlined
def set_entry(s: State, record: int, entry: int) -> None:
    """Set one entry, which nearly every event does; see `set_entries`."""
    if s.records[record].lazies:
        s.records[record].lazies -= clear_range(s.records[record].lazy, entry, entry + 1)
    if set_bit(s.records[record].present, entry):
        if s.records[record].refs == 0:
            _count_empty(s, record, -1)
        s.records[record].refs += 1
        s.counters[Counter.REFS] += 1


@compiled
def clear_entries(s: State, record: int, low: int, high: int) -> None:
    """Clear entries [low, high)."""
    removed = clear_range(s.records[record].present, low, high)
    if s.records[record].lazies:
        s.records[record].lazies -= clear_range(s.records[record].lazy, low, high)
    if removed:
        s.records[record].refs -= removed
        s.counters[Counter.REFS] -= removed
        if s.records[record].refs == 0:
            note_emptied(s, record)
            _count_empty(s, record, 1)


@compiled
def forget_entries(s: State, record: int) -> None:
    """Clear all entries of a record that becomes free or huge."""
    clear_entries(s, record, 0, s.entries)
    for word in range(s.map_words):
        s.records[record].lazy[word] = 0
    s.records[record].lazies = 0
    s.records[record].emptied = 0


@compiled
def replace_entries(s: State, record: int, source: Map) -> None:
    """Replace the map of entries that are not none by `source`."""
    was = s.records[record].refs
    for word in range(s.map_words):
        s.records[record].present[word] = source[word]
        s.records[record].lazy[word] &= source[word]
    refs = count_range(s.records[record].present, 0, s.entries)
    s.records[record].refs = refs
    s.records[record].lazies = count_range(s.records[record].lazy, 0, s.entries)
    s.counters[Counter.REFS] += refs - was
    if was == 0 and refs:
        _count_empty(s, record, -1)
    elif was and refs == 0:
        note_emptied(s, record)
        _count_empty(s, record, 1)


@compiled
def make_huge(s: State, record: int, kind: int) -> None:
    """Turn the PMD entry into a huge page; no policy then has a PTE page in the tree."""
    forget_entries(s, record)
    drop_all_policies(s, record)
    s.records[record].atomic = 0
    s.records[record].huge = kind
    s.counters[Counter.HUGE] += 1
    s.counters[Counter.DEPOSITS] += kind == HUGE_ANON
