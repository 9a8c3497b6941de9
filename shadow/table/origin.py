# SPDX-License-Identifier: GPL-2.0-only
"""Origins: the event that created a PTE page, and the call that cleared its last entry.

The loop notes each event before it applies it. If a PTE page is allocated or loses its last
entry in the meantime, its origin is that event: kind, size of the call, and thread. A
reading has no event; its changes have the code `READING`.
"""

from shadow.events import Kind
from shadow.table.compiled import compiled, entry, inlined
from shadow.table.counters import Counter
from shadow.table.origin_codes import GUARD_INSTALL, KIND_BITS, LOCKED, PAGEOUT, READING
from shadow.table.state import State
from shadow.uapi import MADV_DONTNEED_LOCKED, MADV_GUARD_INSTALL, MADV_PAGEOUT

__all__ = ("note_call", "note_emptied", "note_made", "note_reading")

_MOST_PAGES = (1 << 32) - 1


@compiled
def _variant(kind: int, aux: int) -> int:
    if kind == Kind.TRUNCATE:
        return aux & 3
    if kind == Kind.DONTNEED:
        return LOCKED if aux == MADV_DONTNEED_LOCKED else 0
    if kind == Kind.ADVISE:
        if aux == MADV_GUARD_INSTALL:
            return GUARD_INSTALL
        if aux == MADV_PAGEOUT:
            return PAGEOUT
    return 0


@inlined
def note_call(s: State, kind: int, length: int, tid: int, aux: int) -> None:
    """Note the event that the loop applies next."""
    s.counters[Counter.CALL] = kind
    s.counters[Counter.CALL_TID] = tid
    if kind != Kind.FAULT:
        s.counters[Counter.CALL] |= _variant(kind, aux) << KIND_BITS
        s.counters[Counter.CALL_LENGTH] = length


@entry
def note_reading(s: State) -> None:
    """Note that the shadow adopts a reading next."""
    s.counters[Counter.CALL] = READING
    s.counters[Counter.CALL_TID] = 0
    s.counters[Counter.CALL_LENGTH] = 0


@compiled
def note_made(s: State, record: int) -> None:
    """Store the origin of a PTE page that the running kernel now has."""
    s.records[record].made = s.counters[Counter.NOW]
    s.records[record].made_by = s.counters[Counter.CALL_TID]
    s.records[record].made_call = s.counters[Counter.CALL]


@compiled
def note_emptied(s: State, record: int) -> None:
    """Store which event cleared the last entry of this PTE page."""
    s.records[record].emptied = s.counters[Counter.NOW]
    s.records[record].emptied_by = s.counters[Counter.CALL_TID]
    s.records[record].emptied_call = s.counters[Counter.CALL]
    s.records[record].emptied_pages = min(
        s.counters[Counter.CALL_LENGTH] >> s.page_shift, _MOST_PAGES
    )
