# SPDX-License-Identifier: GPL-2.0-only
"""The VMAs of the address space: find, split, merge, insert and remove them.

The VMAs are one sorted array. The relevant rules of the kernel are those that move
boundaries, because the whole-slot rule of pt_reclaim stops at boundaries. VMAs merge if
they touch, agree in flags and file, are continuous in page offset and do not have two
different anon_vmas (mm/vma.c, is_mergeable_vma and can_vma_merge_before/after; mm/rmap.c,
anon_vma_prepare).
"""

from shadow.table.compiled import compiled, inlined
from shadow.table.counters import Counter
from shadow.table.move import move
from shadow.table.pte_pages import give_all_policies, set_entries
from shadow.table.radix import find, free_record
from shadow.table.state import HUGE_ANON, State
from shadow.table.vma import NOT_COMPARED, LabelPart, VmaFlag

__all__ = (
    "cut",
    "first_hole",
    "first_overlap",
    "give_anon_vma",
    "insert",
    "merge_around",
    "remove_range",
    "split_huge",
    "vma_at",
)

_ACCESS = VmaFlag.READ | VmaFlag.WRITE | VmaFlag.EXEC
_NEVER_MERGED = VmaFlag.HUGETLB | VmaFlag.GROWSDOWN | VmaFlag.SPECIAL
_NOT_SHARED_BY = (
    _ACCESS
    | (1 << LabelPart.POLICY) - (1 << LabelPart.NAME)
    | (1 << LabelPart.END) - (1 << LabelPart.USERFAULT)
)
"""Flags in which VMAs that share an anon_vma may differ (mm/vma.c, anon_vma_compatible)."""


@inlined
def first_overlap(s: State, address: int) -> int:
    """Index of the first VMA that ends after `address` (may be one past the last)."""
    low, high = 0, s.counters[Counter.VMAS]
    while low < high:
        middle = (low + high) >> 1
        if s.vmas[middle].end > address:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def vma_at(s: State, address: int) -> int:
    """Index of the VMA that contains `address`, or -1."""
    v = first_overlap(s, address)
    if v < s.counters[Counter.VMAS] and s.vmas[v].start <= address:
        return v
    return -1


@compiled
def first_hole(s: State, start: int, end: int) -> int:
    """The start of the first hole in [start, end), or `end`."""
    v = first_overlap(s, start)
    while start < end and v < s.counters[Counter.VMAS] and s.vmas[v].start <= start:
        start = s.vmas[v].end
        v += 1
    return min(start, end)


@compiled
def _shift_right(s: State, at: int) -> None:
    """Make room for one VMA at index `at`."""
    count = s.counters[Counter.VMAS]
    move(s.vmas, at + 1, at, count - at)
    s.counters[Counter.VMAS] = count + 1


@compiled
def _remove(s: State, at: int, number: int) -> None:
    """Remove `number` VMAs from index `at` on."""
    if number == 0:
        return
    count = s.counters[Counter.VMAS] - number
    move(s.vmas, at, at + number, count - at)
    s.counters[Counter.VMAS] = count


@compiled
def split_huge(s: State, record: int) -> bool:
    """Split a leaf PMD (__split_huge_pmd); return whether the slot has a PTE page now.

    An anonymous huge page becomes its deposited PTE page, with 512 entries. The kernel only
    clears the PMD of a file's huge page, and faults map its pages again.
    """
    s.counters[Counter.HUGE] -= 1
    if s.records[record].huge != HUGE_ANON:
        free_record(s, record)
        return False
    s.counters[Counter.DEPOSITS] -= 1
    s.records[record].huge = 0
    give_all_policies(s, record)
    set_entries(s, record, 0, s.entries)
    return True


@compiled
def cut(s: State, address: int) -> None:
    """Split the VMA that spans `address` (split_vma), if one does."""
    v = vma_at(s, address)
    if v < 0 or s.vmas[v].start == address:
        return
    _shift_right(s, v)
    pages = (address - s.vmas[v].start) >> s.page_shift
    s.vmas[v].end = address
    s.vmas[v + 1].start = address
    s.vmas[v + 1].pgoff += pages
    if address & (s.slot - 1):  # vma_adjust_trans_huge
        record = find(s, address)
        if record and s.records[record].huge:
            split_huge(s, record)


@compiled
def _continues(s: State, v: int, access: bool) -> bool:
    """Whether VMA v + 1 continues VMA v; with `access`, R, W, X and names may differ."""
    w = v + 1
    differ = (s.vmas[v].flags ^ s.vmas[w].flags) & ~NOT_COMPARED
    if access:
        differ &= ~_NOT_SHARED_BY
    return (
        s.vmas[v].end == s.vmas[w].start
        and differ == 0
        and s.vmas[v].file == s.vmas[w].file
        and s.vmas[w].pgoff - s.vmas[v].pgoff == (s.vmas[v].end - s.vmas[v].start) >> s.page_shift
    )


@compiled
def merge_around(s: State, start: int, end: int) -> None:
    """Merge VMAs at the boundaries in [start, end], where possible."""
    v = max(first_overlap(s, start - 1), 0)
    while v + 1 < s.counters[Counter.VMAS] and s.vmas[v + 1].start <= end:
        a, b = s.vmas[v].anon, s.vmas[v + 1].anon
        either = s.vmas[v].flags | s.vmas[v + 1].flags
        special = s.vmas[v].flags & _NEVER_MERGED
        shares = a == b or (either & VmaFlag.FORKED == 0 and (a == 0 or b == 0))
        if special == 0 and shares and _continues(s, v, False):
            s.vmas[v].end = s.vmas[v + 1].end
            s.vmas[v].anon = max(a, b)
            _remove(s, v + 1, 1)
        else:
            v += 1


@compiled
def _lends(s: State, v: int) -> bool:
    """Whether VMA v has an anon_vma that a neighbour may share (reusable_anon_vma)."""
    return s.vmas[v].anon != 0 and s.vmas[v].flags & VmaFlag.FORKED == 0


@compiled
def give_anon_vma(s: State, v: int) -> None:
    """anon_vma_prepare: let a VMA without an anon_vma share a neighbour's or get its own."""
    if s.vmas[v].anon:
        return
    if v + 1 < s.counters[Counter.VMAS] and _lends(s, v + 1) and _continues(s, v, True):
        s.vmas[v].anon = s.vmas[v + 1].anon
    elif v > 0 and _lends(s, v - 1) and _continues(s, v - 1, True):
        s.vmas[v].anon = s.vmas[v - 1].anon
    else:
        s.counters[Counter.ANON_VMAS] += 1
        s.vmas[v].anon = s.counters[Counter.ANON_VMAS]


@compiled
def insert(s: State, start: int, end: int, flags: int, file: int, pgoff: int, anon: int) -> None:
    """Add a VMA over an unmapped range, and merge it with its neighbours."""
    s.counters[Counter.VMAS_KNOWN] = 1
    at = first_overlap(s, start)
    _shift_right(s, at)
    s.vmas[at].start = start
    s.vmas[at].end = end
    s.vmas[at].flags = flags
    s.vmas[at].file = file
    s.vmas[at].pgoff = pgoff
    s.vmas[at].anon = anon
    merge_around(s, start, end)


@compiled
def remove_range(s: State, start: int, end: int) -> None:
    """Remove the VMAs of a range; the caller has cut them at its ends."""
    first = first_overlap(s, start)
    last = first_overlap(s, end)
    _remove(s, first, last - first)
