# SPDX-License-Identifier: GPL-2.0-only
"""Real page tables adopted by the shadow, the compiled part: seeds and repairs.

A PTE page with entries exists under every policy. No event showed what emptied a PTE page
that is empty and new to the shadow: it exists under `none` and `pt_reclaim`, and `pte_ref`
has freed it.

A call that no event showed cleared the entries that a repair finds gone. Nearly all
such calls are zaps or reclaim, so each is an attempt of `pte_ref`. If the PTE page is gone,
too, the running kernel's rule freed it where its slot is still mapped, and munmap
freed it under every policy where it is not. FREED counts what a policy frees this way, and
INFERRED counts it separately.
"""

import numpy as np
import numpy.typing as npt

from shadow.geometry import ENTRY_BITS, PAGE_SHIFT, SLOT, SLOT_SHIFT
from shadow.policy import Policy
from shadow.table.bits import Map, count_range
from shadow.table.guard_ranges import add_guard, drop_guards
from shadow.table.jit import compiled
from shadow.table.pte_pages import (
    allocate,
    forget_entries,
    give_all_policies,
    has,
    make_huge,
    replace_entries,
    set_entries,
)
from shadow.table.radix import (
    create_upper,
    drop_upper,
    find,
    find_or_create,
    free_record,
    has_room,
    next_slot,
)
from shadow.table.state import WORDS, Counter, State
from shadow.table.vmas import first_overlap
from shadow.table.zap import attempt_pte_ref, count_freed, free_huge

__all__ = (
    "adopt_guards",
    "adopt_huge",
    "adopt_pages",
    "adopt_upper",
    "drop_pages",
    "drop_upper_tables",
    "forget_unmapped",
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
def _loses_entries(s: State, record: int, entries: Map) -> bool:
    """Whether the record has an entry that `entries` has not."""
    gone = np.uint64(0)
    for word in range(WORDS):
        gone |= s.records[record].present[word] & ~entries[word]
    return gone != 0


@compiled
def _infer_attempt(s: State, record: int) -> None:
    """No event showed what cleared entries of this PTE page: pte_ref frees it at 0."""
    if s.counters[Counter.RUNNING] == Policy.PTE_REF:
        return  # the reading itself shows what that kernel freed
    freed = s.counters[Counter.FREED + Policy.PTE_REF]
    attempt_pte_ref(s, record, True)
    s.counters[Counter.INFERRED + Policy.PTE_REF] += (
        s.counters[Counter.FREED + Policy.PTE_REF] - freed
    )


@compiled
def _add_empty(s: State, record: int) -> None:
    """An empty PTE page that is new to the shadow."""
    allocate(s, record, Policy.NONE)
    allocate(s, record, Policy.PT_RECLAIM)
    if s.counters[Counter.VMAS_KNOWN]:  # no seed: it was made and emptied in the window
        allocate(s, record, Policy.PTE_REF)
        _infer_attempt(s, record)


@compiled
def adopt_pages(s: State, slots: Slots, present: npt.NDArray[np.uint64], first: int) -> int:
    """These PTE pages exist with these entries.

    Returns:
        Index of the first slot that found no room, as `run` does.
    """
    for i in range(first, len(slots)):
        if not has_room(s, 1, _UPPER_SPARE):
            return i
        record = _record_for_pages(s, slots[i])
        entries: Map = present[i]
        cleared = _loses_entries(s, record, entries)
        replace_entries(s, record, entries)
        if s.records[record].refs:
            give_all_policies(s, record)
        elif s.records[record].live == 0:
            _add_empty(s, record)
        if cleared:
            _infer_attempt(s, record)
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
def _is_mapped(s: State, slot: int) -> bool:
    """Whether a VMA overlaps the slot, as far as VMAs are known."""
    if s.counters[Counter.VMAS_KNOWN] == 0:
        return True
    v = first_overlap(s, slot)
    return v < s.counters[Counter.VMAS] and s.vmas[v].start < slot + SLOT


@compiled
def drop_pages(s: State, slots: Slots, exact: bool) -> None:
    """These slots have no PTE page with entries and no leaf PMD.

    With `exact` they have no PTE page at all under the running policy.
    """
    running = s.counters[Counter.RUNNING]
    for slot in slots:
        record = find(s, slot)
        if s.records[record].huge:
            free_huge(s, record)
            continue
        had_entries = s.records[record].refs > 0
        forget_entries(s, record)
        drop_guards(s, slot, slot + SLOT)
        if not exact:
            if had_entries:
                _infer_attempt(s, record)
            continue
        if running == Policy.NONE or not _is_mapped(s, slot):
            free_record(s, record)
            continue
        # Whatever the running kernel frees, a policy that frees more often frees too.
        for policy in range(running, Policy.PTE_REF + 1):
            if has(s, record, policy):
                s.counters[Counter.ATTEMPTS + policy] += 1
                s.counters[Counter.INFERRED + policy] += 1
                if policy == Policy.PTE_REF and s.records[record].atomic == 0:
                    s.counters[Counter.SWITCHES] += 1
                count_freed(s, record, policy)
        s.records[record].atomic = 0
        if s.records[record].live == 0:
            free_record(s, record)


@compiled
def forget_unmapped(s: State) -> None:
    """No policy keeps a PTE page outside all VMAs: munmap frees it (free_pgtables).

    Those that the running kernel has were read; the others are here for another policy.
    """
    for record in range(1, s.counters[Counter.RECORDS_USED]):
        slot = s.records[record].slot
        if slot < 0 or s.records[record].huge or has(s, record, s.counters[Counter.RUNNING]):
            continue
        if not _is_mapped(s, slot):
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
def adopt_guards(
    s: State, starts: Slots, ends: Slots, guard_starts: Slots, guard_ends: Slots
) -> None:
    """The slots of these ranges have these guard markers and no others; there is room for them."""
    for i in range(len(starts)):
        drop_guards(s, starts[i] & -SLOT, (ends[i] + SLOT - 1) & -SLOT)
    for g in range(len(guard_starts)):
        drop_guards(s, guard_starts[g], guard_ends[g])
        add_guard(s, guard_starts[g], guard_ends[g])


@compiled
def forget_untouched(s: State, first: int) -> None:
    """VMAs without an entry have no anon_vma: the first page brings one.

    This concerns only VMAs whose anon_vma was guessed: numbers from `first` on.
    """
    for v in range(s.counters[Counter.VMAS]):
        if s.vmas[v].anon >= first and not _has_entries(s, s.vmas[v].start, s.vmas[v].end):
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
