# SPDX-License-Identifier: GPL-2.0-only
"""Properties in which VMAs must agree to merge, apart from access and file.

These are flags, names, memory policies and protection keys. A call over a part of a VMA
splits it; a call that makes neighbours equal again merges them. The whole-slot rule of
pt_reclaim stops at these boundaries.

Sources: mm/vma.c (vma_modify, is_mergeable_vma), mm/madvise.c (madvise_update_vma,
madvise_set_anon_name), mm/mempolicy.c (mbind_range), mm/mseal.c, mm/userfaultfd.c, mm/ksm.c.
"""

from shadow.events import LABEL_BITS, Label
from shadow.table.compiled import compiled, inlined
from shadow.table.counters import Counter
from shadow.table.state import State
from shadow.table.vma import UFFD_FLAGS, LabelPart, VmaFlag
from shadow.table.vmas import cut, first_overlap, merge_around

__all__ = ("DROPPABLE", "NOT_MERGEABLE", "change_flags", "is_droppable", "label", "set_label")

_VALUE = (1 << LABEL_BITS) - 1
_MODES = 3
_MODE_BITS = (1 << _MODES) - 1
_UFFD_SHIFT = 21
NOT_MERGEABLE = VmaFlag.SHARED | VmaFlag.HUGETLB | VmaFlag.SPECIAL
"""Flags of VMAs that KSM does not merge (vma_ksm_compatible, mm/ksm.c)."""
DROPPABLE = VmaFlag.WIPEONFORK | VmaFlag.NORESERVE | VmaFlag.DONTDUMP
"""What mmap with MAP_DROPPABLE sets; other VMAs hardly have all of them (do_mmap, mm/mmap.c)."""
_NOT_OF_DROPPABLE = VmaFlag.MERGEABLE | VmaFlag.LOCKED
_FIRST_MODE = 1 << _UFFD_SHIFT
assert _FIRST_MODE * _MODE_BITS == UFFD_FLAGS


@compiled
def _isolate(s: State, v: int, start: int, end: int) -> int:
    """Cut VMA `v` at the ends of [start, end); return the index of the part inside."""
    if s.vmas[v].start < start:
        cut(s, start)
        v += 1
    if s.vmas[v].end > end:
        cut(s, end)
    return v


@inlined
def is_droppable(flags: int) -> bool:
    """Whether a VMA with these flags may be of mmap with MAP_DROPPABLE."""
    return flags & DROPPABLE == DROPPABLE


@compiled
def change_flags(s: State, start: int, end: int, clear: int, add: int, but: int) -> None:
    """Clear and set flags of the VMAs of [start, end), except those that have any of `but`.

    KSM and mlock leave droppable memory alone (vma_ksm_compatible, mlock_fixup).
    """
    v = first_overlap(s, start)
    while v < s.counters[Counter.VMAS] and s.vmas[v].start < end:
        flags = s.vmas[v].flags & ~clear | add
        spared = s.vmas[v].flags & but or (add & _NOT_OF_DROPPABLE and is_droppable(flags))
        if flags != s.vmas[v].flags and not spared:
            v = _isolate(s, v, start, end)
            s.vmas[v].flags = flags
        v += 1
    merge_around(s, start, end)


@compiled
def set_label(s: State, v: int, first: int, after: int, value: int) -> None:
    """Give one VMA a value in the bits [first, after) of its label."""
    bits = (1 << after) - (1 << first)
    s.vmas[v].flags = s.vmas[v].flags & ~bits | (value << first) & bits


@inlined
def _part(whole: int, first: int, after: int) -> int:
    return (whole >> first) & ((1 << (after - first)) - 1)


@compiled
def _set_labels(s: State, start: int, end: int, first: int, after: int, value: int) -> None:
    v = first_overlap(s, start)
    while v < s.counters[Counter.VMAS] and s.vmas[v].start < end:
        if _part(s.vmas[v].flags, first, after) != value:
            v = _isolate(s, v, start, end)
            set_label(s, v, first, after, value)
        v += 1
    merge_around(s, start, end)


@compiled
def _name(s: State, start: int, end: int, value: int) -> None:
    """Name anonymous memory, VMA by VMA up to the first that maps a file."""
    v = first_overlap(s, start)
    stop = start
    while v < s.counters[Counter.VMAS] and s.vmas[v].start < end:
        if s.vmas[v].file and s.vmas[v].flags & VmaFlag.SHARED == 0:
            break
        stop = min(end, s.vmas[v].end)
        v += 1
    if stop > start:
        _set_labels(s, start, stop, LabelPart.NAME, LabelPart.POLICY, value)


@compiled
def _merge_any(s: State, on: int) -> None:
    """Let KSM merge all private memory, present and future, or none (ksm_add_vma)."""
    s.counters[Counter.MERGE_ANY] = on
    for v in range(s.counters[Counter.VMAS]):
        if s.vmas[v].flags & NOT_MERGEABLE == 0 and not is_droppable(s.vmas[v].flags):
            flags = s.vmas[v].flags & ~VmaFlag.MERGEABLE
            if on:
                flags |= VmaFlag.MERGEABLE
            s.vmas[v].flags = flags


@compiled
def label(s: State, start: int, end: int, aux: int) -> None:
    """Apply a LABEL event."""
    which, value = aux >> LABEL_BITS, aux & _VALUE
    if which == Label.NAME:
        _name(s, start, end, value)
    elif which == Label.POLICY:
        _set_labels(s, start, end, LabelPart.POLICY, LabelPart.USERFAULT, value)
    elif which == Label.SEAL:
        change_flags(s, start, end, 0, VmaFlag.SEALED, 0)
    elif which == Label.MERGE_ANY:
        _merge_any(s, value & 1)
    elif which == Label.USERFAULT:
        modes = (value & _MODE_BITS) << _UFFD_SHIFT
        change_flags(s, start, end, UFFD_FLAGS, modes, 0)
        _set_labels(s, start, end, LabelPart.USERFAULT, LabelPart.END, value >> _MODES)
