# SPDX-License-Identifier: GPL-2.0-only
"""Faults and the other calls that set entries: populate, mlock.

The probe fires when a fault begins. The VMA determines whether the fault sets an entry:
without a VMA, or against its protection, the process gets a signal.

Sources: mm/memory.c (handle_mm_fault, do_anonymous_page, do_huge_pmd_anonymous_page),
and access_error and expand_stack of the architecture.
"""

from shadow.policy import POLICIES
from shadow.table.bits import count_range
from shadow.table.compiled import compiled, inlined
from shadow.table.counters import Counter
from shadow.table.guard_ranges import next_guard
from shadow.table.pte_pages import allocate, has, make_huge, set_entries, set_entry
from shadow.table.radix import find, find_or_create
from shadow.table.state import HUGE_ANON, State
from shadow.table.vma import VmaFlag
from shadow.table.vmas import first_overlap, give_anon_vma
from shadow.table.zap import walker_visits

__all__ = ("ALL_POLICIES", "fault", "fill", "populate", "table_for")

_ERROR_WRITE = 2
_ERROR_EXEC = 16
_ERROR_NOT_A_READ = 3  # a write, or an entry that is already present
_FAULT_AROUND_SHIFT = 16
"""fault_around_bytes is 64 KiB unless debugfs says otherwise (mm/memory.c)."""
_ANY_ACCESS = VmaFlag.READ | VmaFlag.WRITE | VmaFlag.EXEC
_SERVED_BY_OTHERS = VmaFlag.HUGETLB | VmaFlag.UFFD_MISSING
_POLICIES = len(POLICIES)
ALL_POLICIES = (1 << _POLICIES) - 1
"""`live` of a PTE page that every policy has."""


@inlined
def table_for(s: State, address: int, policies: int) -> int:
    """The PTE page record for an entry that the caller will set (pte_alloc).

    Args:
        s: the address space.
        address: address of the entry.
        policies: the policies that need the PTE page, as the bits of `live`.
    """
    real = (policies >> s.counters[Counter.RUNNING]) & 1 != 0
    record = find_or_create(s, address, real)
    if s.records[record].huge:
        return record
    known = s.records[record].live != 0
    walker_visits(s, record)
    if s.records[record].live & policies == policies:
        return record
    for policy in range(_POLICIES):
        if (policies >> policy) & 1 and not has(s, record, policy):
            allocate(s, record, policy)
            s.counters[Counter.REALLOCATED + policy] += known
    return record


@compiled
def _may_be_huge(s: State, v: int, slot: int) -> bool:
    """Whether the kernel may serve a first fault in `slot` with a THP."""
    flags = s.vmas[v].flags
    if flags & VmaFlag.NOHUGEPAGE:
        return False
    if s.counters[Counter.THP] == 1 and flags & VmaFlag.HUGEPAGE == 0:
        return False
    if s.vmas[v].file or flags & VmaFlag.SHARED:
        return False
    return s.vmas[v].start <= slot and slot + s.slot <= s.vmas[v].end


@inlined
def _touch(s: State, v: int, address: int, write: bool, around: bool) -> None:
    """Set the entry of one page of VMA `v` (-1: unknown); with `around` also its neighbours'."""
    slot = address & -s.slot
    if s.counters[Counter.THP] and v >= 0 and _may_be_huge(s, v, slot):
        record = find(s, slot)
        # An empty PTE page that the kernel kept blocks the huge fault (semantics D5, 55). One
        # that only other policies keep does not: the entries are those of the running kernel.
        if record == 0 or not has(s, record, s.counters[Counter.RUNNING]):
            record = find_or_create(s, slot, True)
            if s.records[record].huge == 0:
                make_huge(s, record, HUGE_ANON)
            return
    record = table_for(s, address, ALL_POLICIES)
    if s.records[record].huge:
        return
    entry = (address & (s.slot - 1)) >> s.page_shift
    if write and s.counters[Counter.PAGES_ALWAYS] + s.counters[Counter.PAGES_MADVISE]:
        _map_folio(s, v, record, slot, entry)
    set_entry(s, record, entry)
    if around and s.records[record].huge == 0:
        _map_around(s, v, record, slot, entry)


@compiled
def _map_around(s: State, v: int, record: int, slot: int, entry: int) -> None:
    """Map the cached pages around a read of a file (do_fault_around).

    It is unknown which of them are in the page cache. The shadow assumes that all are,
    because those of running programs and libraries nearly always are.
    """
    around = 1 << (_FAULT_AROUND_SHIFT - s.page_shift)
    low = entry & -around
    first = max(low, (s.vmas[v].start - slot) >> s.page_shift)
    last = min(low + around, (s.vmas[v].end - slot) >> s.page_shift)
    set_entries(s, record, first, last)


@compiled
def _map_folio(s: State, v: int, record: int, slot: int, entry: int) -> None:
    """Map, at a first write, the largest allowed folio that fits the VMA and has no entry yet.

    This follows alloc_anon_folio (mm/memory.c), which also takes a smaller folio if memory is
    short.
    """
    flags = s.vmas[v].flags
    if s.vmas[v].file or flags & (VmaFlag.SHARED | VmaFlag.NOHUGEPAGE):
        return
    sizes = s.counters[Counter.PAGES_ALWAYS]
    if flags & VmaFlag.HUGEPAGE:
        sizes |= s.counters[Counter.PAGES_MADVISE]
    size = s.entries // 2
    while size > 1:
        first = entry & -size
        start = slot + (first << s.page_shift)
        fits = s.vmas[v].start <= start and start + (size << s.page_shift) <= s.vmas[v].end
        vacant = count_range(s.records[record].present, first, first + size) == 0
        if sizes & size and fits and vacant:
            set_entries(s, record, first, first + size)
            return
        size >>= 1


@inlined
def _vma_for_fault(s: State, address: int) -> int:
    """The VMA at `address`, after expanding a stack down to it; -1: none."""
    v = first_overlap(s, address)
    if v == s.counters[Counter.VMAS]:
        return -1
    if s.vmas[v].start > address:
        if s.vmas[v].flags & VmaFlag.GROWSDOWN == 0:
            return -1
        page = address & -s.page
        s.vmas[v].pgoff -= (s.vmas[v].start - page) >> s.page_shift
        s.vmas[v].start = page
    return v


@compiled
def _wait_for_userfaultfd(s: State, v: int, address: int) -> None:
    """Allocate the PTE page of a first fault; a later FILL sets the entry (do_anonymous_page)."""
    slot = address & -s.slot
    if s.vmas[v].anon == 0:
        give_anon_vma(s, v)
    record = find(s, slot)
    running = record and has(s, record, s.counters[Counter.RUNNING])
    if s.counters[Counter.THP] and not running and _may_be_huge(s, v, slot):
        return
    table_for(s, address, ALL_POLICIES)


@compiled
def fill(s: State, start: int, end: int) -> None:
    """Set the entry of every mapped page of [start, end), whatever its protection."""
    v = first_overlap(s, start)
    while v < s.counters[Counter.VMAS] and s.vmas[v].start < end:
        first, last = max(start, s.vmas[v].start), min(end, s.vmas[v].end)
        if s.vmas[v].flags & VmaFlag.HUGETLB == 0:
            if s.vmas[v].flags & VmaFlag.SHARED == 0 and s.vmas[v].anon == 0:
                give_anon_vma(s, v)
            for slot in range(first & -s.slot, last, s.slot):
                record = table_for(s, slot, ALL_POLICIES)
                if s.records[record].huge == 0:
                    low = (max(slot, first) - slot) >> s.page_shift
                    set_entries(s, record, low, (min(slot + s.slot, last) - slot) >> s.page_shift)
        v += 1


@inlined
def fault(s: State, address: int, error: int) -> None:
    """Apply a fault at `address` with the error code `error` (`shadow.events.Kind.FAULT`)."""
    if s.counters[Counter.VMAS_KNOWN] == 0:
        _touch(s, -1, address, False, False)
        return
    v = _vma_for_fault(s, address)
    if v < 0:
        s.counters[Counter.NO_EFFECT] += 1
        return
    flags = s.vmas[v].flags
    allowed = flags & _ANY_ACCESS
    if error & _ERROR_WRITE:
        allowed = flags & VmaFlag.WRITE
    elif error & _ERROR_EXEC:
        allowed = flags & VmaFlag.EXEC
    if allowed == 0:
        s.counters[Counter.NO_EFFECT] += 1
        return
    if flags & _SERVED_BY_OTHERS:
        if flags & VmaFlag.UFFD_MISSING and flags & VmaFlag.SHARED == 0:
            _wait_for_userfaultfd(s, v, address)
            return
        if flags & VmaFlag.HUGETLB:
            return
    if error & _ERROR_WRITE and flags & VmaFlag.SHARED == 0 and s.vmas[v].anon == 0:
        give_anon_vma(s, v)
    around = flags & VmaFlag.CACHED != 0 and error & _ERROR_NOT_A_READ == 0
    _touch(s, v, address, error & _ERROR_WRITE != 0, around)


@compiled
def populate(s: State, start: int, end: int, strict: bool) -> None:
    """Set the entry of every accessible page of [start, end) (mm/gup.c, __mm_populate).

    With `strict`, stop at the first hole, guard or VMA without access, like mlock and
    MADV_POPULATE_*; otherwise continue with the next VMA.
    """
    v = first_overlap(s, start)
    at = start
    while v < s.counters[Counter.VMAS] and s.vmas[v].start < end:
        first, last = max(start, s.vmas[v].start), min(end, s.vmas[v].end)
        flags = s.vmas[v].flags
        if strict and (first > at or flags & _ANY_ACCESS == 0):
            return
        at = last
        stops = next_guard(s, first, last) if s.counters[Counter.GUARDS] else last
        if flags & _ANY_ACCESS and flags & VmaFlag.HUGETLB == 0:
            if flags & VmaFlag.WRITE and flags & VmaFlag.SHARED == 0:
                give_anon_vma(s, v)
            for slot in range(first & -s.slot, stops, s.slot):
                low = max(slot, first)
                _touch(s, v, low, False, False)
                record = find(s, slot)
                if s.records[record].huge == 0:
                    entry = (low & (s.slot - 1)) >> s.page_shift
                    pages = (min(slot + s.slot, stops) - low) >> s.page_shift
                    set_entries(s, record, entry, min(entry + pages, s.entries))
        if strict and stops < last:
            return
        v += 1
