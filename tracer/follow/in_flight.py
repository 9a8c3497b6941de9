# SPDX-License-Identifier: GPL-2.0-only
"""Find slots in flux: their last event is so recent that a reading may differ.

A probe and the change that it reports are not simultaneous: the probe of a fault fires before
the kernel sets the entry, and that of madvise after the kernel has cleared the entries. So a
slot with an event shortly before, during or after a reading says nothing about the shadow. This
module also keeps the ranges of calls that map pages without faults.
"""

from collections import deque

import numpy as np

from shadow.events import (
    EVENT,
    MAP_FLAGS_SHIFT,
    SPECIAL,
    UNFILLED,
    Doubt,
    EventBatch,
    Kind,
    kinds_of,
)
from shadow.table.page_set import Ranges, merged, overlapping
from shadow.uapi import (
    MADV_COLLAPSE,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MADV_PAGEOUT,
    MAP_LOCKED,
    MAP_POPULATE,
)
from tracer.follow.compare import Mask, Slots

__all__ = ("MARGIN_NS", "MOVE_NO_MAPPING", "Motion", "union", "unobserved")

MARGIN_NS = 20_000_000
"""Time after which a fault or a call is assumed to be complete, ns."""

MOVE_NO_MAPPING = (Kind.FAULT, Kind.DONTNEED, Kind.FREE, Kind.TRUNCATE, Kind.FILL)
"""Events that change entries but no VMAs, and only add to upper levels."""

_NOWHERE: Ranges = np.empty(0, np.int64), np.empty(0, np.int64)
_UNOBSERVED = {
    *(Kind.MAP, Kind.ADVISE, Kind.POPULATE, Kind.LOCK),
    *(Kind.PROTECT, Kind.REMAP_TO, Kind.BRK),  # in locked memory
    *(Kind.TRUNCATE, Kind.DOUBT, Kind.FILL),
}
_CAUSES = {
    Doubt.CALL: "failed call",
    Doubt.USERFAULTFD: "userfaultfd",
    Doubt.DIRECT_IO: "direct I/O",
    Doubt.REMOTE: "another process",
    Doubt.FILE: "file cut",
    Doubt.ATTACHED: "device",
    Doubt.COMPAT: "32-bit call",
    Doubt.MAPPINGS: "mappings",
}
_BRK_REACH = 64 << 20
"""A BRK event has only the new break; so many bytes on either side may have changed."""


def unobserved(events: EventBatch) -> dict[str, EventBatch]:
    """The events of calls that add or remove entries without an event for each entry.

    The keys name the effect: the call maps pages without faults, lets reclaim choose
    (MADV_PAGEOUT discards only lazyfree pages that were not written to since), or sets or
    removes markers.
    """
    kind, aux = events["kind"], events["aux"] & ~np.uint32(UNFILLED)
    flags = aux >> MAP_FLAGS_SHIFT
    maps = (kind == Kind.MAP) & (flags & (MAP_LOCKED | MAP_POPULATE) != 0)
    collapse = (kind == Kind.ADVISE) & (aux == MADV_COLLAPSE)
    populate = maps | collapse | (aux != events["aux"]) | np.isin(kind, (Kind.POPULATE, Kind.LOCK))
    pageout = (kind == Kind.ADVISE) & (aux == MADV_PAGEOUT)
    guard = (kind == Kind.ADVISE) & np.isin(aux, (MADV_GUARD_INSTALL, MADV_GUARD_REMOVE))
    found = {"populate": events[populate], "pageout": events[pageout], "guard": events[guard]}
    device = (kind == Kind.MAP) & (aux & SPECIAL != 0)
    cut = (kind == Kind.TRUNCATE) & (aux != 0)
    for doubt, name in _CAUSES.items():
        doubtful = (kind == Kind.DOUBT) & (aux == doubt)
        doubtful |= {"file cut": cut, "device": device}.get(name, False)
        found[name] = events[doubtful]
    return found


def filled(events: EventBatch) -> dict[str, EventBatch]:
    """FILL events by the cause of the entries."""
    fills = events[events["kind"] == Kind.FILL]
    return {name: fills[fills["aux"] == doubt] for doubt, name in _CAUSES.items()}


def union(parts: list[Ranges]) -> Ranges:
    """All ranges in one array."""
    starts, ends = zip(*parts, strict=True)
    return merged(np.concatenate(starts), np.concatenate(ends))


def _ranges(events: EventBatch) -> Ranges:
    starts = events["address"].astype(np.int64)
    ends = starts + events["length"].astype(np.int64)
    everything = np.isin(events["kind"], (Kind.LOCK, Kind.DOUBT)) & (events["length"] == 0)
    ends = np.where(everything, 1 << 62, ends)
    brk = events["kind"] == Kind.BRK
    starts = np.where(brk, np.maximum(starts - _BRK_REACH, 0), starts)
    return merged(starts, np.where(brk, ends + _BRK_REACH, ends))


class Motion:
    """The recent events of one process.

    Args:
        slot_bytes: the size of a slot.
    """

    def __init__(self, slot_bytes: int) -> None:
        self._slot = slot_bytes
        self.forget()

    def forget(self) -> None:
        """Forget all events, for example after a seed, which reads everything."""
        self._recent: deque[EventBatch] = deque()
        self._called = dict.fromkeys(unobserved(np.empty(0, EVENT)), _NOWHERE)
        self.reading_since = 0
        """Start of the current reading (ns); 0: there is none."""

        self.doubtful: list[Ranges] = []
        """Ranges of calls since the last reading that have a result without events."""
        self.lost = False
        """Whether events are missing or the last reading is torn: anything may be wrong."""

    def note(self, events: EventBatch) -> None:
        """Note a batch of events."""
        if len(events) == 0:
            return
        self._recent.append(events)
        oldest = (self.reading_since or int(events["time"][-1])) - 2 * MARGIN_NS
        while self._recent and self._recent[0]["time"][-1] < oldest:
            self._recent.popleft()
        kinds = kinds_of(events)
        if Kind.FILL in kinds:
            for name, calls in filled(events).items():
                if len(calls):
                    self._called[name] = union([self._called[name], _ranges(calls)])
        self.lost = self.lost or Kind.LOSS in kinds
        if not kinds & _UNOBSERVED:
            return
        for name, calls in unobserved(events).items():
            if len(calls):
                self._called[name] = union([self._called[name], _ranges(calls)])
                self.doubtful.append(_ranges(calls))

    def _since(self, time: int) -> EventBatch:
        events = np.concatenate([np.empty(0, EVENT), *self._recent])
        late: EventBatch = events[events["time"] + np.uint64(MARGIN_NS) >= time]
        return late

    def moving(self, slots: Slots, since: int) -> Mask:
        """Which slots an event after `since` (ns), less the margin, may have changed."""
        events = self._since(since)
        fault = events["kind"] == Kind.FAULT
        faulted = np.unique(events["address"][fault].astype(np.int64) & -self._slot)
        return np.isin(slots, faulted) | overlapping(slots, _ranges(events[~fault]), self._slot)

    def mappings_moving(self, since: int) -> bool:
        """Whether an event after `since` (ns), less the margin, may have changed a mapping."""
        return not np.isin(self._since(since)["kind"], MOVE_NO_MAPPING).all()

    def called(self, slots: Slots) -> dict[str, Mask]:
        """By effect, which slots a call of `unobserved` has ever covered."""
        return {
            name: overlapping(slots, ranges, self._slot) for name, ranges in self._called.items()
        }
