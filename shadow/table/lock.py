# SPDX-License-Identifier: GPL-2.0-only
"""mlock, mlock2, mlockall, munlock and munlockall.

Source: mm/mlock.c.
"""

from shadow.events import PARTLY, UNFILLED
from shadow.table.compiled import compiled
from shadow.table.counters import Counter
from shadow.table.fault import populate
from shadow.table.labels import change_flags
from shadow.table.state import State
from shadow.table.vma import VmaFlag
from shadow.table.vmas import first_hole
from shadow.uapi import MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, MLOCK_ONFAULT

__all__ = ("lock", "lock_all", "lock_fills", "unlock")

_EVERYWHERE = 1 << 62


@compiled
def _lock_vmas(s: State, start: int, end: int, on_fault: bool) -> None:
    if on_fault:
        change_flags(s, start, end, 0, VmaFlag.LOCKED | VmaFlag.LOCKONFAULT, 0)
    else:
        change_flags(s, start, end, VmaFlag.LOCKONFAULT, VmaFlag.LOCKED, 0)


@compiled
def lock_fills(length: int, flags: int) -> bool:
    """Whether an mlock (mlockall if the length is 0) fills the locked range at once."""
    if flags & UNFILLED:
        return False
    if length:
        return flags & MLOCK_ONFAULT == 0
    return flags & (MCL_CURRENT | MCL_ONFAULT) == MCL_CURRENT


@compiled
def lock(s: State, start: int, end: int, flags: int) -> None:
    """mlock or mlock2 over a range; a call that fails at a hole fills nothing."""
    done = first_hole(s, start, end)
    if start < done:
        _lock_vmas(s, start, done, flags & MLOCK_ONFAULT != 0)
    if done == end and lock_fills(end - start, flags):
        populate(s, start, end, True)


@compiled
def lock_all(s: State, flags: int) -> None:
    """mlockall."""
    s.counters[Counter.LOCK_FUTURE] = flags & MCL_FUTURE
    if flags & MCL_CURRENT:
        _lock_vmas(s, 0, _EVERYWHERE, flags & MCL_ONFAULT != 0)
        if lock_fills(0, flags):
            populate(s, 0, _EVERYWHERE, False)


@compiled
def unlock(s: State, start: int, end: int, aux: int) -> None:
    """munlock over a range, or munlockall if the range is empty."""
    if aux & PARTLY:
        end = first_hole(s, start, end)
        if start == end:
            return
    elif end == start:
        s.counters[Counter.LOCK_FUTURE] = 0
        start, end = 0, _EVERYWHERE
    change_flags(s, start, end, VmaFlag.LOCKED | VmaFlag.LOCKONFAULT, 0, 0)
