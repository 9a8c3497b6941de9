# SPDX-License-Identifier: GPL-2.0-only
"""mprotect.

Source: mm/mprotect.c (mprotect_fixup).
"""

from shadow.events import PARTLY, PKEY_SHIFT, UNFILLED
from shadow.table.compiled import compiled
from shadow.table.counters import Counter
from shadow.table.fault import populate
from shadow.table.labels import set_label
from shadow.table.state import State
from shadow.table.vma import LabelPart, VmaFlag
from shadow.table.vmas import cut, first_hole, first_overlap, merge_around

__all__ = ("protect",)

_ANY_KEY = 0x1F
_ACCESS = VmaFlag.READ | VmaFlag.WRITE | VmaFlag.EXEC
_LOCKED = VmaFlag.LOCKED | VmaFlag.LOCKONFAULT
_NOT_ACCOUNTABLE = VmaFlag.SHARED | VmaFlag.NORESERVE | VmaFlag.HUGETLB


@compiled
def protect(s: State, start: int, end: int, aux: int) -> None:
    """mprotect over [start, end), or up to the first hole; it may fill locked memory."""
    if aux & PARTLY:
        end = first_hole(s, start, end)
    if start >= end:
        return
    key = (aux >> PKEY_SHIFT) & _ANY_KEY
    cut(s, start)
    cut(s, end)
    v = first_overlap(s, start)
    while v < s.counters[Counter.VMAS] and s.vmas[v].start < end:
        flags = s.vmas[v].flags & ~_ACCESS | aux & _ACCESS
        if flags & (VmaFlag.WRITE | _NOT_ACCOUNTABLE) == VmaFlag.WRITE:
            flags |= VmaFlag.ACCOUNT
        elif flags & VmaFlag.WRITE == 0 and s.vmas[v].file == 0 and s.vmas[v].anon == 0:
            flags &= ~VmaFlag.ACCOUNT
        wakes = s.vmas[v].flags & (VmaFlag.WRITE | VmaFlag.SHARED | _LOCKED) == VmaFlag.LOCKED
        s.vmas[v].flags = flags
        if key:
            set_label(s, v, LabelPart.PKEY, LabelPart.NAME, key - 1)
        if wakes and flags & VmaFlag.WRITE and aux & UNFILLED == 0:
            populate(s, s.vmas[v].start, s.vmas[v].end, False)
        v += 1
    merge_around(s, start, end)
