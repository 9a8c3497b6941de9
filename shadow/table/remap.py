# SPDX-License-Identifier: GPL-2.0-only
"""mremap and brk: mappings that move, grow and shrink.

mremap moves a whole PTE page if source and destination are slot aligned and the destination
has none. Otherwise it moves entry by entry, and the source keeps its PTE page until its VMA
goes (semantics D3, 33-37 and 63-65).

Sources: mm/mremap.c (mremap_to, move_vma, move_page_tables, try_realign_addr),
mm/mmap.c (brk).
"""

from shadow.table.bits import is_set, set_range
from shadow.table.compiled import compiled
from shadow.table.counters import Counter
from shadow.table.fault import populate, table_for
from shadow.table.guard_ranges import move_guards
from shadow.table.pte_pages import clear_entries, has, set_entries
from shadow.table.radix import (
    PMD_LEVEL,
    PUD_LEVEL,
    attach_record,
    create_upper,
    detach_record,
    drop_empty_upper,
    find,
    next_table,
    upper_table,
)
from shadow.table.state import State
from shadow.table.unmap import unmap
from shadow.table.vma import LEFT_BEHIND, VmaFlag
from shadow.table.vmas import first_overlap, insert, split_huge, vma_at
from shadow.table.zap import walker_visits
from shadow.uapi import MREMAP_DONTUNMAP

__all__ = ("brk", "remap")


@compiled
def _move_entries(s: State, source: int, old: int, new: int, extent: int) -> None:
    """move_ptes: move [old, old + extent) of record `source` to `new`."""
    walker_visits(s, source)
    if s.records[source].live == 0:
        return
    # Only a kernel that still has the source's PTE page allocates one at the target.
    target = table_for(s, new, s.records[source].live)
    low = (old & (s.slot - 1)) >> s.page_shift
    to = (new & (s.slot - 1)) >> s.page_shift
    for entry in range(extent >> s.page_shift):
        if is_set(s.records[source].present, low + entry):
            set_entries(s, target, to + entry, to + entry + 1)
            if is_set(s.records[source].lazy, low + entry):
                s.records[target].lazies += set_range(
                    s.records[target].lazy, to + entry, to + entry + 1
                )
    clear_entries(s, source, low, low + (extent >> s.page_shift))


@compiled
def _can_align_down(s: State, address: int) -> bool:
    """can_align_down: a VMA begins at `address`, and no other VMA precedes it in its slot."""
    v = vma_at(s, address)
    if v < 0 or s.vmas[v].start != address:
        return False
    return v == 0 or s.vmas[v - 1].end <= address & -s.slot


@compiled
def _move_tables(s: State, old: int, new: int, length: int) -> None:
    """move_page_tables."""
    first, end = old, old + length
    offset = old & (s.slot - 1)
    if (
        offset
        and offset == new & (s.slot - 1)
        and length >= s.slot - offset
        and _can_align_down(s, old)
        and _can_align_down(s, new)
    ):
        old -= offset
        new -= offset
    while old < end:
        if upper_table(s, old, PMD_LEVEL) == 0:
            step = next_table(s, old & -s.pmd_span, end, PMD_LEVEL) - old
            if step < 0:
                return
            old += step
            new += step
            continue
        whole = (old | new) & (s.pmd_span - 1) == 0 and end - old >= s.pmd_span
        create_upper(s, new, PMD_LEVEL if whole else PUD_LEVEL, True)
        extent = min(s.slot - (old & (s.slot - 1)), s.slot - (new & (s.slot - 1)))
        extent = min(extent, end - old)
        record = find(s, old)
        if record:
            if has(s, record, s.counters[Counter.RUNNING]):
                create_upper(s, new, PMD_LEVEL, True)
            if extent == s.slot and find(s, new) == 0:
                detach_record(s, record)
                attach_record(s, record, new)
            elif s.records[record].huge == 0 or split_huge(s, record):
                _move_entries(s, record, old, new, extent)
        old += extent
        new += extent
        if (old | new) & (s.pmd_span - 1) == 0 and old - s.pmd_span >= first:
            # The kernel moves a whole PMD page with its PUD entry (move_normal_pud).
            drop_empty_upper(s, old - s.pmd_span, old - s.pmd_span, old)


@compiled
def _move(s: State, old: int, new: int, length: int, grown: int, keep: bool, fills: bool) -> None:
    """Move the part [old, old + length) of one VMA to `new`, with `grown` bytes there.

    If a call moves several VMAs, mappings at the target of a hole between them stay
    (mm/mremap.c, remap_move, in v6.17).
    """
    v = vma_at(s, old)
    flags, file, anon = s.vmas[v].flags, s.vmas[v].file, s.vmas[v].anon
    pgoff = s.vmas[v].pgoff + ((old - s.vmas[v].start) >> s.page_shift)
    if file == 0 and anon == 0:
        pgoff = new >> s.page_shift
    unmap(s, new, new + grown)  # MREMAP_FIXED; otherwise the range is unmapped already
    insert(s, new, new + grown, flags & ~LEFT_BEHIND, file, pgoff, anon)
    _move_tables(s, old, new, length)
    if s.counters[Counter.GUARDS]:
        move_guards(s, old, old + length, new - old)
    if keep:
        v = vma_at(s, old)
        s.vmas[v].flags &= ~(VmaFlag.LOCKED | VmaFlag.LOCKONFAULT)
        if s.vmas[v].start == old and s.vmas[v].end == old + length:
            s.vmas[v].anon = 0
            s.vmas[v].flags &= ~VmaFlag.FORKED
    else:
        unmap(s, old, old + length)
    if fills and flags & VmaFlag.LOCKED and grown > length:
        populate(s, new + length, new + grown, False)


@compiled
def remap(
    s: State, old: int, old_length: int, new: int, new_length: int, flags: int, fills: bool
) -> None:
    """mremap that returned `new`; page-aligned bytes; `fills`: fill added locked memory."""
    if s.counters[Counter.VMAS_KNOWN] == 0 or old_length == 0 or vma_at(s, old) < 0:
        return
    if new == old:
        if new_length < old_length:
            unmap(s, old + new_length, old + old_length)
        elif new_length > old_length:
            v = vma_at(s, old + old_length - s.page)
            if v >= 0:
                flags, file, anon = s.vmas[v].flags, s.vmas[v].file, s.vmas[v].anon
                pgoff = s.vmas[v].pgoff + ((s.vmas[v].end - s.vmas[v].start) >> s.page_shift)
                start, end = old + old_length, old + new_length
                insert(s, start, end, flags, file, pgoff, anon)
                if fills and flags & VmaFlag.LOCKED:
                    populate(s, start, end, False)
        return
    if old < new + new_length and new < old + old_length:
        return  # the kernel refuses such a call (check_mremap_params)
    if new_length < old_length:
        unmap(s, new, new + new_length)  # like mremap_to: first the target, then the excess
        unmap(s, old + new_length, old + old_length)
        old_length = new_length
    keep = flags & MREMAP_DONTUNMAP != 0
    address, end = old, old + old_length
    while address < end:
        v = first_overlap(s, address)
        if v == s.counters[Counter.VMAS] or s.vmas[v].start >= end:
            return
        address = max(address, s.vmas[v].start)
        piece = min(end, s.vmas[v].end) - address
        grown = piece
        if address == old and piece == old_length:
            grown = new_length
        _move(s, address, new + (address - old), piece, grown, keep, fills)
        address += piece


@compiled
def brk(s: State, address: int, fills: bool) -> None:
    """Move the program break to `address`; `fills`: fill added locked memory."""
    before = (s.counters[Counter.BRK] + s.page - 1) & -s.page
    after = (address + s.page - 1) & -s.page
    known = s.counters[Counter.BRK] != 0
    s.counters[Counter.BRK] = address
    if not known:
        return
    if after > before:
        flags = VmaFlag.READ | VmaFlag.WRITE | VmaFlag.ACCOUNT
        if s.counters[Counter.LOCK_FUTURE]:
            flags |= VmaFlag.LOCKED
        if s.counters[Counter.MERGE_ANY]:
            flags |= VmaFlag.MERGEABLE
        insert(s, before, after, flags, 0, before >> s.page_shift, 0)
        if fills and flags & VmaFlag.LOCKED:
            populate(s, before, after, False)
    elif after < before:
        unmap(s, after, before)
