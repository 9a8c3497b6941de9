"""Which slots are in motion: touched by an event so recent that a reading may differ.

A probe and the change that it tells of are not one moment: a fault is told
before its entry is set, an madvise after its entries were cleared. So a slot
with an event shortly before, during or after a reading says nothing about the
shadow. The ranges of calls that map pages without faults are kept here too.
"""

from collections import deque

import numpy as np
import numpy.typing as npt

from shadow.events import EVENT, MAP_FLAGS_SHIFT, EventBatch, Kind
from shadow.geometry import SLOT
from shadow.table import Ranges, overlapping
from tracer.audit import Mask, Slots

__all__ = ("MARGIN_NS", "Motion", "merged", "populating")

MARGIN_NS = 20_000_000
"""Time (ns) within which a fault or a call is taken to be over."""

_MAP_LOCKED, _MAP_POPULATE = 0x2000, 0x8000
_MADV_COLLAPSE = 25
_BRK_REACH = 64 << 20
"""A BRK event tells only where the break is now; bytes around it that may have moved."""


def merged(starts: Slots, ends: Slots) -> Ranges:
    """The union of ranges, as sorted and disjoint ones."""
    order = np.argsort(starts)
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    begins = np.ones(len(starts), np.bool_)
    begins[1:] = starts[1:] > ends[:-1]
    last = np.append(np.flatnonzero(begins)[1:] - 1, len(starts) - 1)
    return starts[begins], ends[last[: int(begins.sum())]]


def populating(events: EventBatch) -> EventBatch:
    """Those of the events after which pages are mapped that no fault tells of."""
    kind, aux = events["kind"], events["aux"]
    flags = aux >> MAP_FLAGS_SHIFT
    maps = (kind == Kind.MAP) & (flags & (_MAP_LOCKED | _MAP_POPULATE) != 0)
    collapse = (kind == Kind.ADVISE) & (aux == _MADV_COLLAPSE)
    chosen: EventBatch = events[maps | collapse | np.isin(kind, (Kind.POPULATE, Kind.LOCK))]
    return chosen


def _ranges(events: EventBatch) -> Ranges:
    starts = events["address"].astype(np.int64)
    ends = starts + events["length"].astype(np.int64)
    brk = events["kind"] == Kind.BRK
    starts = np.where(brk, np.maximum(starts - _BRK_REACH, 0), starts)
    return merged(starts, np.where(brk, ends + _BRK_REACH, ends))


class Motion:
    """The recent events of one process."""

    def __init__(self) -> None:
        self._recent: deque[EventBatch] = deque()
        self._populated: Ranges = np.empty(0, np.int64), np.empty(0, np.int64)
        self.reading_since = 0
        """When the reading under way began (ns); 0: there is none."""

    def note(self, events: EventBatch) -> None:
        """Take notice of a batch."""
        if len(events) == 0:
            return
        self._recent.append(events)
        oldest = (self.reading_since or int(events["time"][-1])) - 2 * MARGIN_NS
        while self._recent[0]["time"][-1] < oldest:
            self._recent.popleft()
        called = populating(events)
        if len(called):
            known, new = self._populated, _ranges(called)
            self._populated = merged(
                np.concatenate([known[0], new[0]]), np.concatenate([known[1], new[1]])
            )

    def _since(self, time: int) -> EventBatch:
        events = np.concatenate([np.empty(0, EVENT), *self._recent])
        late: EventBatch = events[events["time"] + np.uint64(MARGIN_NS) >= time]
        return late

    def moving(self, slots: Slots, since: int) -> Mask:
        """Which slots an event after `since` (ns), less the margin, may have changed."""
        events = self._since(since)
        fault = events["kind"] == Kind.FAULT
        faulted = np.unique(events["address"][fault].astype(np.int64) & -SLOT)
        return np.isin(slots, faulted) | overlapping(slots, _ranges(events[~fault]))

    def mappings_moving(self, since: int) -> bool:
        """Whether any event but a fault came after `since` (ns), less the margin."""
        return bool((self._since(since)["kind"] != Kind.FAULT).any())

    def populated(self, slots: Slots) -> npt.NDArray[np.bool_]:
        """Which slots were ever under a call that maps pages without faults."""
        return overlapping(slots, self._populated)
