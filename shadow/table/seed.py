# SPDX-License-Identifier: GPL-2.0-only
"""Adoption of real page tables by the shadow, the compiled part: seeds and repairs.

A PTE page with entries exists under every policy. If an empty PTE page is new to the
shadow, no event showed what emptied it. Then it exists under all policies but `pte_ref`, which
has freed it. `dontneed_zero` keeps it, because it may be a munmap, a truncated file or reclaim
that emptied it: so the shadow never claims too much for that policy.

If a repair finds entries gone, a call without an event cleared them. Nearly all such calls
are zaps or reclaim, so each is an attempt of `pte_ref`. If the PTE page is gone too, there
are two cases: if its slot is still mapped, the running kernel's rule freed it; otherwise
munmap freed it under every policy. FREED includes the PTE pages that a policy frees this
way, and INFERRED counts them separately.
"""

import numpy as np
import numpy.typing as npt

from shadow.policy import Policy
from shadow.table.bits import Map, count_range
from shadow.table.compiled import compiled, entry
from shadow.table.counters import Counter
from shadow.table.guard_ranges import add_guard, drop_guards
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
from shadow.table.state import State
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
"""More than the upper tables that one record may need."""


@compiled
def _record_for_pages(s: State, slot: int) -> int:
    record = find_or_create(s, slot, True)
    if s.records[record].huge:
        free_huge(s, record)
        record = find_or_create(s, slot, True)
    return record


@compiled
def _loses_entries(s: State, record: int, entries: Map) -> bool:
    """Whether the record has an entry that `entries` lacks."""
    gone = np.uint64(0)
    for word in range(s.map_words):
        gone |= s.records[record].present[word] & ~entries[word]
    return gone != 0


@compiled
def _infer_attempt(s: State, record: int) -> None:
    """Infer an attempt of pte_ref: no event showed what cleared entries of this PTE page."""
    if s.counters[Counter.RUNNING] == Policy.PTE_REF:
        return  # the reading itself shows what that kernel freed
    freed = s.counters[Counter.FREED + Policy.PTE_REF]
    attempt_pte_ref(s, record, True)
    s.counters[Counter.INFERRED + Policy.PTE_REF] += (
        s.counters[Counter.FREED + Policy.PTE_REF] - freed
    )


@compiled
def _add_empty(s: State, record: int) -> None:
    """Add an empty PTE page that is new to the shadow."""
    allocate(s, record, Policy.NONE)
    allocate(s, record, Policy.PT_RECLAIM)
    allocate(s, record, Policy.DONTNEED_ZERO)
    if s.counters[Counter.VMAS_KNOWN]:  # not a seed: the page was created and emptied in the window
        allocate(s, record, Policy.PTE_REF)
        _infer_attempt(s, record)


@entry
def adopt_pages(s: State, slots: Slots, present: npt.NDArray[np.uint64], first: int) -> int:
    """Record that these PTE pages exist with these entries.

    Returns:
        Index of the first slot without room in the arrays, as `run` does.
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


@entry
def adopt_huge(s: State, slots: Slots, kinds: npt.NDArray[np.uint8], first: int) -> int:
    """Record that these slots are leaf PMDs; returns the same as `adopt_pages`."""
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
    return v < s.counters[Counter.VMAS] and s.vmas[v].start < slot + s.slot


@entry
def drop_pages(s: State, slots: Slots, exact: bool) -> None:
    """Record that these slots have no PTE page with entries and no leaf PMD.

    With `exact`, they have no PTE page at all under the running policy.
    """
    running = s.counters[Counter.RUNNING]
    for slot in slots:
        record = find(s, slot)
        if s.records[record].huge:
            free_huge(s, record)
            continue
        had_entries = s.records[record].refs > 0
        forget_entries(s, record)
        drop_guards(s, slot, slot + s.slot)
        if not exact:
            if had_entries:
                _infer_attempt(s, record)
            continue
        if running == Policy.NONE or not _is_mapped(s, slot):
            free_record(s, record)
            continue
        # A policy that frees more often than the running kernel frees these pages too.
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


@entry
def forget_unmapped(s: State) -> None:
    """Free the PTE pages outside all VMAs under every policy, as munmap does (free_pgtables).

    The reading includes those of the running kernel; other policies have the rest.
    """
    for record in range(1, s.counters[Counter.RECORDS_USED]):
        slot = s.records[record].slot
        if slot < 0 or s.records[record].huge or has(s, record, s.counters[Counter.RUNNING]):
            continue
        if not _is_mapped(s, slot):
            free_record(s, record)


@entry
def adopt_upper(s: State, bases: Slots, level: int, first: int) -> int:
    """Record that these tables of this level exist; returns the same as `adopt_pages`."""
    for i in range(first, len(bases)):
        if not has_room(s, 1, _UPPER_SPARE):
            return i
        create_upper(s, bases[i], level, True)
    return len(bases)


@entry
def drop_upper_tables(s: State, bases: Slots, level: int) -> None:
    """Record that these tables of this level do not exist."""
    for base in bases:
        drop_upper(s, base, level)


@compiled
def _has_entries(s: State, start: int, end: int) -> bool:
    slot = next_slot(s, start & -s.slot, end)
    while slot >= 0:
        record = find(s, slot)
        low = (max(slot, start) - slot) >> s.page_shift
        high = (min(slot + s.slot, end) - slot) >> s.page_shift
        if s.records[record].huge or count_range(s.records[record].present, low, high):
            return True
        slot = next_slot(s, slot + s.slot, end)
    return False


@entry
def adopt_guards(
    s: State, starts: Slots, ends: Slots, guard_starts: Slots, guard_ends: Slots
) -> None:
    """Replace the guard markers in the slots of these ranges by these; the array has room."""
    for i in range(len(starts)):
        drop_guards(s, starts[i] & -s.slot, (ends[i] + s.slot - 1) & -s.slot)
    for g in range(len(guard_starts)):
        drop_guards(s, guard_starts[g], guard_ends[g])
        add_guard(s, guard_starts[g], guard_ends[g])


@entry
def forget_untouched(s: State, first: int) -> None:
    """Remove the anon_vma of VMAs without entries, because the first page brings one.

    This applies only to VMAs with a guessed anon_vma: numbers from `first` on.
    """
    for v in range(s.counters[Counter.VMAS]):
        if s.vmas[v].anon >= first and not _has_entries(s, s.vmas[v].start, s.vmas[v].end):
            s.vmas[v].anon = 0


@entry
def set_runs(s: State, starts: Slots, ends: Slots, huge: npt.NDArray[np.uint8], first: int) -> int:
    """Set runs of entries, or huge pages, in a new address space.

    Args:
        s: the address space.
        starts: (n,) first address of each run, bytes.
        ends: (n,) end address of each run.
        huge: (n,) 0, HUGE_ANON or HUGE_FILE.
        first: index of the first run to apply.

    Returns:
        Index of the first run that is not applied, as `run` does.
    """
    for i in range(first, len(starts)):
        records = ((ends[i] - starts[i]) >> s.slot_shift) + 2
        if not has_room(s, records, _UPPER_SPARE + 2 * (records >> s.entry_bits)):
            return i
        for slot in range(starts[i] & -s.slot, ends[i], s.slot):
            record = find_or_create(s, slot, True)
            if huge[i]:
                if s.records[record].huge == 0:
                    make_huge(s, record, huge[i])
                continue
            give_all_policies(s, record)
            low = (max(slot, starts[i]) & (s.slot - 1)) >> s.page_shift
            pages = (min(slot + s.slot, ends[i]) - max(slot, starts[i])) >> s.page_shift
            set_entries(s, record, low, low + pages)
    return len(starts)
