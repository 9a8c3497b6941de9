"""Real page tables taken over into the shadow: seeds and repairs.

A PTE page with entries exists under every policy. One that is empty and new to
the shadow was emptied before anybody looked: `none` and `pt_reclaim` are taken to
have it, and `pte_ref` has not, because under it no PTE page stays empty.
"""

import numpy as np
import numpy.typing as npt

from shadow.geometry import ENTRY_BITS, PAGE_SHIFT, SLOT, SLOT_SHIFT
from shadow.policy import Policy
from shadow.table.bits import Map, count_range
from shadow.table.compiled import compiled
from shadow.table.markers import drop_guards
from shadow.table.radix import (
    create_upper,
    drop_upper,
    find,
    find_or_create,
    free_record,
    has_room,
    next_slot,
)
from shadow.table.records import (
    allocate,
    forget_entries,
    give_all_policies,
    has,
    make_huge,
    release,
    replace_entries,
    set_entries,
)
from shadow.table.state import Counter, State
from shadow.table.zap import free_huge

__all__ = (
    "adopt_huge",
    "adopt_pages",
    "adopt_upper",
    "drop_pages",
    "drop_upper_tables",
    "forget_untouched",
    "set_runs",
)

Slots = npt.NDArray[np.int64]

_UPPER_SPARE = 8
"""Upper tables that one record may need, and more."""


@compiled
def _record_for_pages(s: State, slot: int) -> int:
    record = find_or_create(s, slot, True)
    if s.records[record].huge:
        free_huge(s, record)
        record = find_or_create(s, slot, True)
    return record


@compiled
def adopt_pages(s: State, slots: Slots, present: npt.NDArray[np.uint64], first: int) -> int:
    """These PTE pages exist with these entries.

    Returns:
        Index of the first slot not taken over, for want of room, as `run` does.
    """
    for i in range(first, len(slots)):
        if not has_room(s, 1, _UPPER_SPARE):
            return i
        record = _record_for_pages(s, slots[i])
        entries: Map = present[i]
        replace_entries(s, record, entries)
        if s.records[record].refs:
            give_all_policies(s, record)
            continue
        if s.records[record].live == 0:
            allocate(s, record, Policy.NONE)
            allocate(s, record, Policy.PT_RECLAIM)
        if not has(s, record, s.counters[Counter.RUNNING]):
            allocate(s, record, s.counters[Counter.RUNNING])
    return len(slots)


@compiled
def adopt_huge(s: State, slots: Slots, kinds: npt.NDArray[np.uint8], first: int) -> int:
    """These slots are leaf PMDs; returns as `adopt_pages` does."""
    for i in range(first, len(slots)):
        if not has_room(s, 1, _UPPER_SPARE):
            return i
        record = find_or_create(s, slots[i], True)
        if s.records[record].huge != kinds[i]:
            if s.records[record].huge:
                free_huge(s, record)
                record = find_or_create(s, slots[i], True)
            make_huge(s, record, kinds[i])
    return len(slots)


@compiled
def drop_pages(s: State, slots: Slots, exact: bool) -> None:
    """These slots have no PTE page with entries and no leaf PMD.

    With `exact` they have no PTE page at all under the running policy; what
    `none` still keeps stays for its sake.
    """
    running = s.counters[Counter.RUNNING]
    for slot in slots:
        record = find(s, slot)
        if s.records[record].huge:
            free_huge(s, record)
            continue
        forget_entries(s, record)
        drop_guards(s, slot, slot + SLOT)
        if not exact:
            continue
        if running == Policy.NONE:
            free_record(s, record)
            continue
        for policy in range(Policy.PT_RECLAIM, Policy.PTE_REF + 1):
            if has(s, record, policy):
                release(s, record, policy)
        if s.records[record].live == 0:
            free_record(s, record)


@compiled
def adopt_upper(s: State, bases: Slots, level: int, first: int) -> int:
    """The tables of this level over these addresses exist; returns as `adopt_pages` does."""
    for i in range(first, len(bases)):
        if not has_room(s, 1, _UPPER_SPARE):
            return i
        create_upper(s, bases[i], level, True)
    return len(bases)


@compiled
def drop_upper_tables(s: State, bases: Slots, level: int) -> None:
    """The tables of this level over these addresses do not exist."""
    for base in bases:
        drop_upper(s, base, level)


@compiled
def _has_entries(s: State, start: int, end: int) -> bool:
    slot = next_slot(s, start & -SLOT, end)
    while slot >= 0:
        record = find(s, slot)
        low = (max(slot, start) - slot) >> PAGE_SHIFT
        high = (min(slot + SLOT, end) - slot) >> PAGE_SHIFT
        if s.records[record].huge or count_range(s.records[record].present, low, high):
            return True
        slot = next_slot(s, slot + SLOT, end)
    return False


@compiled
def forget_untouched(s: State) -> None:
    """VMAs without an entry have no anon_vma: one is made when the first page comes."""
    for v in range(s.counters[Counter.VMAS]):
        if s.vmas[v].anon and not _has_entries(s, s.vmas[v].start, s.vmas[v].end):
            s.vmas[v].anon = 0


@compiled
def set_runs(s: State, starts: Slots, ends: Slots, huge: npt.NDArray[np.uint8], first: int) -> int:
    """Runs of entries are not none, or huge, in an address space made for it.

    Args:
        s: the address space.
        starts: (n,) first address of each run, bytes.
        ends: (n,) end address of each run.
        huge: (n,) 0, HUGE_ANON or HUGE_FILE.
        first: the run to begin with.

    Returns:
        Index of the first run not applied, as `run` does.
    """
    for i in range(first, len(starts)):
        records = ((ends[i] - starts[i]) >> SLOT_SHIFT) + 2
        if not has_room(s, records, _UPPER_SPARE + 2 * (records >> ENTRY_BITS)):
            return i
        for slot in range(starts[i] & -SLOT, ends[i], SLOT):
            record = find_or_create(s, slot, True)
            if huge[i]:
                if s.records[record].huge == 0:
                    make_huge(s, record, huge[i])
                continue
            give_all_policies(s, record)
            low = (max(slot, starts[i]) & (SLOT - 1)) >> PAGE_SHIFT
            pages = (min(slot + SLOT, ends[i]) - max(slot, starts[i])) >> PAGE_SHIFT
            set_entries(s, record, low, low + pages)
    return len(starts)
