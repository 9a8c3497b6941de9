# SPDX-License-Identifier: GPL-2.0-only
"""A limit on the slots that calls fill, such as populating calls.

A fault creates one PTE page, so the number of faults bounds their PTE pages. One call that
populates or locks can claim 2^26 PTE pages, whether or not the kernel found the memory:
mmap does not report how far MAP_POPULATE came. So fills go into a leaky bucket. It holds
`Counter.FILLS_MOST` slots, leaks `_EACH` with each event, and is empty after a
reading of everything. The loop refuses a fill that does not fit. Live, the reading that
follows such a call anyway finds its entries (`shadow.events.UNFILLED`); a trace with such a
call is damaged.
"""

from shadow.events import UNFILLED, Kind
from shadow.table.compiled import compiled, entry
from shadow.table.counters import Counter
from shadow.table.lock import lock_fills
from shadow.table.map import populates
from shadow.table.state import Pending, State
from shadow.table.vma import VmaFlag
from shadow.table.vmas import first_overlap, vma_at
from shadow.uapi import MADV_GUARD_INSTALL

__all__ = ("charge", "drain", "fills_of", "may_fill", "pending_of")

_EACH = 16
_ACCESS = VmaFlag.READ | VmaFlag.WRITE | VmaFlag.EXEC
_LOCKED = VmaFlag.LOCKED | VmaFlag.LOCKONFAULT
_ANY = -1
_NO_END = 1 << 62
_KINDS = 32


@compiled
def pending_of(s: State, tid: int) -> int:
    """The row of the unfinished call of thread `tid`, or -1."""
    for row in range(s.counters[Counter.PENDING]):
        if s.pending[row, Pending.TID] == tid:
            return row
    return -1


@compiled
def _slots_with(s: State, start: int, end: int, mask: int, flags: int) -> int:
    """Slots under the VMAs in [start, end) whose `mask` flags equal `flags` (`_ANY`: any set)."""
    slots = 0
    v = first_overlap(s, start)
    while v < s.counters[Counter.VMAS] and s.vmas[v].start < end:
        found = s.vmas[v].flags & mask
        if found == flags or (flags == _ANY and found):
            length = min(end, s.vmas[v].end) - max(start, s.vmas[v].start)
            slots += (length >> s.slot_shift) + 2
        v += 1
    return slots


@compiled
def _grown_by_move(s: State, tid: int, length: int) -> int:
    """Slots that an mremap to `length` bytes adds to locked memory."""
    row = pending_of(s, tid)
    if row < 0:
        return 0
    old, end = s.pending[row, Pending.START], s.pending[row, Pending.END]
    v = vma_at(s, old)
    if v < 0 or s.vmas[v].flags & VmaFlag.LOCKED == 0 or length <= end - old:
        return 0
    return ((length - (end - old)) >> s.slot_shift) + 2


@compiled
def fills_of(s: State, kind: int, start: int, length: int, tid: int, aux: int) -> int:
    """An upper bound on the slots that a call can fill."""
    end = start + length
    if aux & UNFILLED:
        return 0
    if kind == Kind.ADVISE and aux == MADV_GUARD_INSTALL:
        return _slots_with(s, start, end, _ANY, _ANY)
    if kind == Kind.MAP and populates(s, aux) and aux & _ACCESS:
        return (length >> s.slot_shift) + 2
    if kind == Kind.BRK and s.counters[Counter.LOCK_FUTURE] and s.counters[Counter.BRK]:
        return (max(start - s.counters[Counter.BRK], 0) >> s.slot_shift) + 2
    if kind == Kind.POPULATE or (kind == Kind.LOCK and lock_fills(length, aux)):
        return _slots_with(s, start, end if length else _NO_END, _ACCESS, _ANY)
    if kind == Kind.PROTECT and aux & VmaFlag.WRITE:
        mask = VmaFlag.WRITE | VmaFlag.SHARED | _LOCKED
        return _slots_with(s, start, end, mask, VmaFlag.LOCKED)
    if kind == Kind.FILL:
        return _slots_with(s, start, end, _ANY, _ANY)
    if kind == Kind.REMAP_TO:
        return _grown_by_move(s, tid, length)
    return 0


@compiled
def _level(s: State) -> int:
    """Slots in the bucket now."""
    events = 0
    for kind in range(_KINDS):
        events += s.counters[Counter.EVENTS + kind]
    leaked = _EACH * (events - s.counters[Counter.FILLED_AT])
    s.counters[Counter.FILLED] = max(s.counters[Counter.FILLED] - leaked, 0)
    s.counters[Counter.FILLED_AT] = events
    return s.counters[Counter.FILLED]


@compiled
def may_fill(s: State, slots: int) -> bool:
    """Whether this many slots fit; if not, note that the event was refused."""
    if slots == 0 or _level(s) + slots <= s.counters[Counter.FILLS_MOST]:
        return True
    s.counters[Counter.REFUSED] = 1
    return False


@compiled
def charge(s: State, slots: int) -> None:
    """Put this many slots in."""
    s.counters[Counter.FILLED] += slots


@entry
def drain(s: State, slots: int, everything: bool) -> None:
    """Take this many slots out, because they were read, or all if `everything` was."""
    s.counters[Counter.FILLED] = 0 if everything else max(s.counters[Counter.FILLED] - slots, 0)
