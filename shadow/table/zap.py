# SPDX-License-Identifier: GPL-2.0-only
"""MADV_DONTNEED, MADV_FREE and file truncation: zaps that may free PTE pages.

These functions apply the rules of all policies together. A zap walks the VMAs of its range
in order, and in each VMA the slots with a PTE page. The part of a zap in one slot and one
VMA is a *chunk*.

Sources: mm/madvise.c (madvise_walk_vmas, madvise_dontneed_free), mm/memory.c
(zap_pte_range, zap_pte_table_if_empty; before v7.0 in mm/pt_reclaim.c); for dontneed_zero
tools/vm_guests/dontneed-zero.patch; for pte_ref patches 14 and 15 of the RFC.
"""

from shadow.events import FILE_TRUNCATED
from shadow.policy import Policy
from shadow.table.bits import copy_range, count_range
from shadow.table.compiled import compiled, inlined
from shadow.table.counters import Counter
from shadow.table.guard_ranges import clear_but_guards, unmark_guards
from shadow.table.pte_pages import clear_entries, has, release
from shadow.table.radix import find, free_record, next_slot
from shadow.table.state import HUGE_ANON, State
from shadow.table.vma import VmaFlag
from shadow.table.vmas import first_overlap, split_huge
from shadow.uapi import MADV_DONTNEED_LOCKED

__all__ = (
    "attempt_pte_ref",
    "count_freed",
    "dontneed",
    "free_huge",
    "free_lazily",
    "truncate",
    "walker_visits",
    "zap_piece",
)

_SHARED_WRITABLE = VmaFlag.SHARED | VmaFlag.WRITE
_NOT_FREED_LAZILY = VmaFlag.SHARED | VmaFlag.HUGETLB | VmaFlag.LOCKED


@compiled
def count_freed(s: State, record: int, policy: int) -> None:
    """`policy` frees the PTE page by its own rule."""
    release(s, record, policy)
    s.counters[Counter.FREED + policy] += 1


@inlined
def walker_visits(s: State, record: int) -> None:
    """Let a page-table walker enter (pte_tryget).

    In atomic mode with a count of 0, the tryget fails and the walker itself frees the PTE
    page. In percpu mode, a count of 0 is not visible.
    """
    if s.records[record].atomic and s.records[record].refs == 0 and has(s, record, Policy.PTE_REF):
        count_freed(s, record, Policy.PTE_REF)
        s.records[record].atomic = 0


@compiled
def attempt_pte_ref(s: State, record: int, switch_back: bool) -> None:
    """try_to_free_user_pte: switch to atomic mode, check the count, free at 0."""
    if not has(s, record, Policy.PTE_REF):
        return
    s.counters[Counter.ATTEMPTS + Policy.PTE_REF] += 1
    if s.records[record].atomic == 0:
        s.records[record].atomic = 1
        s.counters[Counter.SWITCHES] += 1
    if s.records[record].refs == 0:
        count_freed(s, record, Policy.PTE_REF)
        s.records[record].atomic = 0
    elif switch_back and s.counters[Counter.POSTED_SWITCH_BACK]:
        s.records[record].atomic = 0


@compiled
def free_huge(s: State, record: int) -> None:
    """Clear a leaf PMD and free its deposited PTE page."""
    if s.records[record].huge == HUGE_ANON:
        s.counters[Counter.DEPOSITS] -= 1
    s.counters[Counter.HUGE] -= 1
    free_record(s, record)


@compiled
def _look(s: State, record: int, policy: int) -> None:
    """After a DONTNEED that left no marker: free the PTE page if it maps nothing."""
    if has(s, record, policy):
        s.counters[Counter.ATTEMPTS + policy] += 1
        if s.records[record].refs == 0:
            count_freed(s, record, policy)


@compiled
def _dontneed_chunk(s: State, record: int, start: int, end: int, reclaim: bool) -> None:
    """Zap [start, end) of one slot; `reclaim`: the rules of DONTNEED apply."""
    whole = end - start == s.slot
    if s.records[record].huge:
        if whole:
            free_huge(s, record)
            return
        if not split_huge(s, record):
            return
    walker_visits(s, record)
    left = False
    if s.counters[Counter.GUARDS]:
        left = clear_but_guards(s, record, start, end)
    else:
        low = (start & (s.slot - 1)) >> s.page_shift
        clear_entries(s, record, low, low + ((end - start) >> s.page_shift))
    if reclaim and not left:
        if whole:
            _look(s, record, Policy.PT_RECLAIM)
        _look(s, record, Policy.DONTNEED_ZERO)
    attempt_pte_ref(s, record, True)


@compiled
def zap_piece(s: State, start: int, end: int, reclaim: bool) -> None:
    """zap_page_range_single: [start, end) of one VMA; `reclaim`: the rules of DONTNEED apply."""
    slot = next_slot(s, start & -s.slot, end)
    while slot >= 0:
        _dontneed_chunk(s, find(s, slot), max(slot, start), min(slot + s.slot, end), reclaim)
        slot = next_slot(s, slot + s.slot, end)


@compiled
def dontneed(s: State, start: int, end: int, advice: int) -> None:
    """MADV_DONTNEED or MADV_DONTNEED_LOCKED over [start, end).

    The kernel zaps the VMAs in order up to the first that refuses (locked), and then returns
    EINVAL. It skips holes, and then returns ENOMEM.
    """
    if s.counters[Counter.VMAS_KNOWN] == 0:
        zap_piece(s, start, end, True)
        return
    v = first_overlap(s, start)
    while v < s.counters[Counter.VMAS] and s.vmas[v].start < end:
        flags = s.vmas[v].flags
        if flags & VmaFlag.LOCKED and advice != MADV_DONTNEED_LOCKED:
            return
        if flags & VmaFlag.HUGETLB == 0:
            zap_piece(s, max(start, s.vmas[v].start), min(end, s.vmas[v].end), True)
        v += 1


@compiled
def _file_lost(s: State, start: int, end: int, private: bool) -> None:
    """unmap_mapping_range: mappings of a file lose pages; `private`: private copies too."""
    v = first_overlap(s, start)
    while v < s.counters[Counter.VMAS] and s.vmas[v].start < end:
        flags = s.vmas[v].flags
        if flags & VmaFlag.HUGETLB == 0 and (private or flags & VmaFlag.SHARED):
            zap_piece(s, max(start, s.vmas[v].start), min(end, s.vmas[v].end), False)
        v += 1


@compiled
def truncate(s: State, start: int, end: int, aux: int) -> None:
    """MADV_REMOVE or a truncated file: free pages without the rules of DONTNEED (semantics C3).

    MADV_REMOVE goes VMA by VMA, up to the first that refuses (madvise_remove). For a hole in
    a file, the shadow does not know which pages of a private mapping are private copies.
    """
    if aux:
        _file_lost(s, start, end, aux == FILE_TRUNCATED)
        return
    if s.counters[Counter.VMAS_KNOWN] == 0:
        zap_piece(s, start, end, False)
        return
    v = first_overlap(s, start)
    while v < s.counters[Counter.VMAS] and s.vmas[v].start < end:
        if s.vmas[v].flags & (_SHARED_WRITABLE | VmaFlag.LOCKED) != _SHARED_WRITABLE:
            return
        zap_piece(s, max(start, s.vmas[v].start), min(end, s.vmas[v].end), False)
        v += 1


@compiled
def _free_chunk(s: State, record: int, start: int, end: int) -> None:
    low = (start & (s.slot - 1)) >> s.page_shift
    high = low + ((end - start) >> s.page_shift)
    if s.records[record].huge:
        if high - low == s.entries:
            return  # the page stays huge; reclaim decides later
        if not split_huge(s, record):
            return
    walker_visits(s, record)
    s.records[record].lazies += copy_range(
        s.records[record].lazy, s.records[record].present, low, high
    )
    if s.counters[Counter.GUARDS]:
        unmark_guards(s, record, start, end)
    marked = count_range(s.records[record].lazy, low, high) > 0
    attempt_pte_ref(s, record, not marked)


@compiled
def free_lazily(s: State, start: int, end: int) -> None:
    """MADV_FREE over [start, end): anonymous entries become lazyfree.

    The kernel refuses file mappings and locked ones with EINVAL, after it has processed the
    VMAs before them.
    """
    v = first_overlap(s, start)
    known = s.counters[Counter.VMAS_KNOWN]
    while not known or (v < s.counters[Counter.VMAS] and s.vmas[v].start < end):
        first, last = start, end
        if known:
            if s.vmas[v].file or s.vmas[v].flags & _NOT_FREED_LAZILY:
                return
            first, last = max(start, s.vmas[v].start), min(end, s.vmas[v].end)
        slot = next_slot(s, first & -s.slot, last)
        while slot >= 0:
            _free_chunk(s, find(s, slot), max(slot, first), min(slot + s.slot, last))
            slot = next_slot(s, slot + s.slot, last)
        if not known:
            return
        v += 1
