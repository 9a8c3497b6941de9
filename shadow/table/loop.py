# SPDX-License-Identifier: GPL-2.0-only
"""The compiled loop, which applies events to the address space in order.

The loop applies a call at its return, with one exception: munmap releases its range before
it returns, and another thread may map the range again before that return. So the loop notes
the entry of each munmap. A mapping that overlaps a noted range proves that the munmap has
happened, so the loop applies the munmap first.
"""

from shadow.events import DISCARDED, UNFILLED, EventBatch, Kind
from shadow.table.advise import advise
from shadow.table.clock import advance_clock
from shadow.table.compiled import compiled, entry, inlined, signed
from shadow.table.counters import Counter
from shadow.table.fault import fault, fill, populate
from shadow.table.fills import charge, fills_of, may_fill, pending_of
from shadow.table.labels import label
from shadow.table.lock import lock, lock_all, unlock
from shadow.table.map import map_range
from shadow.table.origin import note_call
from shadow.table.protect import protect
from shadow.table.radix import has_room
from shadow.table.reclaim import collapse_slot, reclaim, split_slot
from shadow.table.remap import brk, remap
from shadow.table.state import Pending, State
from shadow.table.unmap import detach, unmap
from shadow.table.vma import KNOWN_FILE
from shadow.table.zap import dontneed, free_lazily, truncate

__all__ = ("run",)

_ERROR_BITS = 0x7FFFFFFF
_UPPER_SPARE = 8
_VMA_SPARE = 6
_GUARD_SPARE = 2
_MOST_LOST = 1 << 62


@compiled
def _forget_pending(s: State, row: int) -> None:
    last = s.counters[Counter.PENDING] - 1
    for column in range(Pending.COLUMNS):
        s.pending[row, column] = s.pending[last, column]
    s.counters[Counter.PENDING] = last


@compiled
def _note_pending(s: State, tid: int, kind: int, start: int, end: int, aux: int) -> None:
    row = pending_of(s, tid)
    if row < 0:
        if s.counters[Counter.PENDING] == len(s.pending):
            _forget_pending(s, 0)
        row = s.counters[Counter.PENDING]
        s.counters[Counter.PENDING] += 1
    s.pending[row, Pending.TID] = tid
    s.pending[row, Pending.KIND] = kind
    s.pending[row, Pending.START] = start
    s.pending[row, Pending.END] = end
    s.pending[row, Pending.AUX] = aux


@compiled
def _settle_unmaps(s: State, start: int, end: int) -> None:
    """Apply the noted munmaps that a new mapping of [start, end) proves done."""
    row = s.counters[Counter.PENDING] - 1
    while row >= 0:
        first, last = s.pending[row, Pending.START], s.pending[row, Pending.END]
        if s.pending[row, Pending.KIND] == Kind.UNMAP_BEGIN and first < end and start < last:
            note_call(s, Kind.UNMAP, last - first, s.pending[row, Pending.TID], 0)
            unmap(s, first, last)
            _forget_pending(s, row)
        row -= 1


@compiled
def _file_of(s: State, tid: int) -> tuple[int, int]:
    """The open file that this thread maps now, and the offset in pages; 0: unknown."""
    row = pending_of(s, tid)
    if row < 0 or s.pending[row, Pending.KIND] != Kind.FILE:
        return 0, 0
    offset = s.pending[row, Pending.START] >> s.page_shift
    file = s.pending[row, Pending.AUX] | KNOWN_FILE
    _forget_pending(s, row)
    return file, offset


@inlined
def _fits(s: State, records: int, upper: int, vmas: int) -> bool:
    return (
        has_room(s, records, upper)
        and s.counters[Counter.VMAS] + vmas <= len(s.vmas)
        and s.counters[Counter.GUARDS] + _GUARD_SPARE <= len(s.guards)
    )


@compiled
def _has_room_for(s: State, kind: int, start: int, length: int, tid: int, aux: int) -> bool:
    """Whether the arrays are long enough for a call that is not a zap."""
    fills = fills_of(s, kind, start, length, tid, aux)
    if not may_fill(s, fills):
        return False
    records, upper, vmas = 2 + fills, _UPPER_SPARE, _VMA_SPARE
    if kind == Kind.POPULATE or kind == Kind.LOCK:
        upper += _UPPER_SPARE * s.counters[Counter.VMAS]
    elif kind == Kind.REMAP_TO:
        records += 2 * s.counters[Counter.RECORDS_USED]
        upper += 2 * s.counters[Counter.TABLES_USED]
        vmas += s.counters[Counter.VMAS]
    if not _fits(s, records, upper + 2 * (records >> s.entry_bits), vmas):
        return False
    charge(s, fills)
    return True


@inlined
def _has_room(s: State, kind: int, start: int, length: int, tid: int, aux: int) -> bool:
    """Whether the arrays are long enough for everything that this event may add."""
    if kind <= Kind.TRUNCATE:
        return _fits(s, 2, _UPPER_SPARE, _VMA_SPARE)
    return _has_room_for(s, kind, start, length, tid, aux)


@compiled
def _apply(s: State, kind: int, start: int, length: int, tid: int, aux: int) -> None:
    """Apply an event that is not a fault."""
    end = start + length
    if kind == Kind.DONTNEED:
        dontneed(s, start, end, aux)
    elif kind == Kind.FREE:
        free_lazily(s, start, end)
    elif kind == Kind.TRUNCATE:
        truncate(s, start, end, aux)
    elif kind == Kind.UNMAP_BEGIN or kind == Kind.REMAP_FROM or kind == Kind.FILE:
        _note_pending(s, tid, kind, start, end, aux)
    elif kind == Kind.UNMAP:
        row = pending_of(s, tid)
        if row >= 0:
            _forget_pending(s, row)
            unmap(s, start, end)
        # Without a note, an earlier mapping has already settled it.
    elif kind == Kind.REMAP_TO:
        row = pending_of(s, tid)
        if row >= 0:
            old, old_end = s.pending[row, Pending.START], s.pending[row, Pending.END]
            flags = s.pending[row, Pending.AUX]
            _forget_pending(s, row)
            if length:
                remap(s, old, old_end - old, start, length, flags, aux & UNFILLED == 0)
    elif kind == Kind.MAP:
        _settle_unmaps(s, start, end)
        note_call(s, kind, length, tid, aux)
        file, offset = _file_of(s, tid)
        map_range(s, start, end, aux, file, offset)
    elif kind == Kind.PROTECT:
        protect(s, start, end, aux)
    elif kind == Kind.BRK:
        brk(s, start, aux & UNFILLED == 0)
    elif kind == Kind.POPULATE:
        if aux & UNFILLED == 0:
            populate(s, start, end, True)
    elif kind == Kind.ADVISE:
        advise(s, start, end, aux)
    elif kind == Kind.LOCK:
        if length:
            lock(s, start, end, aux)
        else:
            lock_all(s, aux)
    elif kind == Kind.UNLOCK:
        unlock(s, start, end, aux)
    elif kind == Kind.LOSS:
        s.counters[Counter.LOST] = min(s.counters[Counter.LOST] + length, _MOST_LOST)
    elif kind == Kind.SPLIT:
        split_slot(s, start)
    elif kind == Kind.COLLAPSE:
        collapse_slot(s, start)
    elif kind == Kind.RECLAIM:
        reclaim(s, start, end, aux == DISCARDED)
    elif kind == Kind.FILL:
        if aux & UNFILLED == 0:
            fill(s, start, end)
    elif kind == Kind.LABEL:
        label(s, start, end, aux)
    elif kind == Kind.DETACH:
        detach(s, start)


@entry
def run(s: State, events: EventBatch, first: int) -> int:
    """Apply `events` from index `first` on.

    Returns the index of the first event that is not applied: the number of events, or less if
    the arrays must grow before that event.
    """
    for i in range(first, len(events)):
        event = events[i]
        kind = signed(event.kind)
        start, length = signed(event.address), signed(event.length)
        tid, aux = signed(event.tid), signed(event.aux)
        if not _has_room(s, kind, start, length, tid, aux):
            return i
        advance_clock(s, signed(event.time))
        s.counters[Counter.EVENTS + kind] += 1
        note_call(s, kind, length, tid, aux)
        if kind == Kind.FAULT:
            fault(s, start, aux & _ERROR_BITS)
        else:
            _apply(s, kind, start, length, tid, aux)
    return len(events)
