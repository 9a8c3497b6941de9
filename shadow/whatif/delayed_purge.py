# SPDX-License-Identifier: GPL-2.0-only
"""Purges held back for a while, as jemalloc holds freed memory for its decay time.

Freed memory waits. What is used again meanwhile is not purged at all. What is left
when the time is over is purged together with all free neighbours, whose own time
starts anew when they merge (jemalloc 5.3, src/extent.c: extents coalesce while they are
dirty, and a merged one goes to the young end of the list that decay works off). They do
not merge across the beginning of a mapping (`extent_neighbor_head_state_mergeable`), and
one that has grown to oversize_threshold is purged at once (`extent_record`).

This is the most that waiting can bring. jemalloc purges in steps before the time is over
(src/decay.c): what waits may not be more than a limit that falls, for the pages of each
moment, along a curve from all of them to none. With `steps` what is above that limit is
purged, oldest first, as soon as there is enough of it to wake the background thread. How
much that is depends on how fast memory is freed, and a process that purges at once is
slower at that than it will be under the change. All arenas are taken for one.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from shadow.events import EVENT, EventBatch, Kind
from shadow.geometry import PAGE, PAGE_SHIFT
from shadow.table.jit import compiled, signed
from shadow.uapi import MADV_DONTNEED
from shadow.whatif.purge_index import Numbers, number_of, purged_by

__all__ = ("FOREVER", "delayed_purge")

FOREVER = 1 << 62
"""A time to wait: until the process rests."""
_END = (1 << 63) - 1
"""After all that waits."""
_STEPS = 200
_SHORTEST_STEP_NS = 1_000_000
_BATCH_PAGES = 1024
"""BACKGROUND_THREAD_NPAGES_THRESHOLD (background_thread_structs.h)."""

Flags = npt.NDArray[np.bool_]
Curve = npt.NDArray[np.float64]


class _At(IntEnum):
    """Places in `counts`."""

    OUT = 0
    """Events written."""
    HEAD = 1
    """The oldest row of the queue that was not looked at."""
    TAIL = 2
    HELD = 3
    """Pages that wait."""
    UNPURGED = 4
    """Pages that waited after the last step, or were allowed to."""
    EPOCH = 5
    """When the last step was, ns."""
    TGID = 6
    LAST = 7
    """The end of the history, ns: what is purged later is purged then."""
    NUMBER = 8


@compiled
def _first_of_run(address: Numbers, barrier: Flags, freed: Numbers, page: int) -> int:
    while (
        page > 0
        and freed[page - 1]
        and not barrier[page]
        and address[page] - address[page - 1] == PAGE
    ):
        page -= 1
    return page


@compiled
def _end_of_run(address: Numbers, barrier: Flags, freed: Numbers, page: int) -> int:
    page += 1
    while (
        page < len(freed)
        and freed[page]
        and not barrier[page]
        and address[page] - address[page - 1] == PAGE
    ):
        page += 1
    return page


@compiled
def _purge(
    address: Numbers, freed: Numbers, out: EventBatch, counts: Numbers,
    low: int, high: int, time: int,
) -> None:  # fmt: skip
    """One MADV_DONTNEED over the pages from `low` to `high`."""
    for page in range(low, high):
        freed[page] = 0
    counts[_At.HELD] -= high - low
    at = counts[_At.OUT]
    out[at].time = min(time, counts[_At.LAST])
    out[at].address = address[low]
    out[at].length = (high - low) << PAGE_SHIFT
    out[at].tgid = counts[_At.TGID]
    out[at].tid = counts[_At.TGID]
    out[at].kind = Kind.DONTNEED
    out[at].cpu = 0
    out[at].aux = MADV_DONTNEED
    counts[_At.OUT] = at + 1


@compiled
def _take_oldest(
    address: Numbers, barrier: Flags, freed: Numbers, queue: Numbers, out: EventBatch,
    counts: Numbers, time: int,
) -> None:  # fmt: skip
    """Purge what the oldest row of the queue freed, unless it has merged with younger."""
    head = counts[_At.HEAD]
    counts[_At.HEAD] = head + 1
    when = queue[head, 0]
    page = queue[head, 1]
    while page < queue[head, 2]:
        if freed[page] != when:  # used again, purged already, or freed again later
            page += 1
            continue
        low = _first_of_run(address, barrier, freed, page)
        high = _end_of_run(address, barrier, freed, page)
        newest = when
        for merged in range(low, high):
            newest = max(newest, freed[merged])
        if newest == when:
            _purge(address, freed, out, counts, low, high, time)
        page = high


@compiled
def _step(backlog: Numbers, curve: Curve, counts: Numbers) -> int:
    """One step of the curve; returns how many pages may wait (decay_backlog_update)."""
    for i in range(_STEPS - 1):
        backlog[i] = backlog[i + 1]
    backlog[_STEPS - 1] = max(counts[_At.HELD] - counts[_At.UNPURGED], 0)
    allowed = 0.0
    for i in range(_STEPS):
        allowed += backlog[i] * curve[i]
    return int(allowed)


@compiled
def _decay(
    address: Numbers, barrier: Flags, freed: Numbers, queue: Numbers, out: EventBatch,
    counts: Numbers, backlog: Numbers, curve: Curve, interval: int, now: int,
) -> None:  # fmt: skip
    """All steps up to `now`."""
    while counts[_At.HELD] and counts[_At.EPOCH] + interval <= now:
        counts[_At.EPOCH] += interval
        limit = _step(backlog, curve, counts)
        if counts[_At.HELD] - limit >= _BATCH_PAGES:
            while counts[_At.HELD] > limit and counts[_At.HEAD] < counts[_At.TAIL]:
                _take_oldest(address, barrier, freed, queue, out, counts, counts[_At.EPOCH])
        counts[_At.UNPURGED] = max(counts[_At.HELD], limit)
    if counts[_At.EPOCH] + interval <= now:  # nothing waits
        backlog[:] = 0
        counts[_At.UNPURGED] = 0
        counts[_At.EPOCH] = now


@compiled
def _hold(
    events: EventBatch, wait: int, limit: int, steps: bool,
    start: Numbers, end: Numbers, first: Numbers, address: Numbers, barrier: Flags,
    freed: Numbers, queue: Numbers, out: EventBatch, counts: Numbers,
    backlog: Numbers, curve: Curve,
) -> None:  # fmt: skip
    interval = max(wait // _STEPS, _SHORTEST_STEP_NS)
    counts[_At.TGID] = signed(events[0].tgid)
    counts[_At.EPOCH] = signed(events[0].time)
    counts[_At.LAST] = signed(events[len(events) - 1].time)
    for i in range(len(events)):
        event = events[i]
        now = signed(event.time)
        if steps and counts[_At.EPOCH] + interval <= now:
            _decay(address, barrier, freed, queue, out, counts, backlog, curve, interval, now)
        while counts[_At.HEAD] < counts[_At.TAIL] and queue[counts[_At.HEAD], 0] + wait <= now:
            due = queue[counts[_At.HEAD], 0] + wait
            _take_oldest(address, barrier, freed, queue, out, counts, due)
        kind = signed(event.kind)
        begin = signed(event.address)
        if kind == Kind.DONTNEED:
            page = number_of(start, end, first, begin)
            beyond = page + (signed(event.length) >> PAGE_SHIFT)
            for number in range(page, beyond):
                counts[_At.HELD] += freed[number] == 0
                freed[number] = now
            tail = counts[_At.TAIL]
            queue[tail, 0] = now
            queue[tail, 1] = page
            queue[tail, 2] = beyond
            counts[_At.TAIL] = tail + 1
            low = _first_of_run(address, barrier, freed, page)
            high = _end_of_run(address, barrier, freed, beyond - 1)
            if high - low >= limit:
                _purge(address, freed, out, counts, low, high, now)
            continue
        if kind == Kind.FAULT:
            page = number_of(start, end, first, begin & -PAGE)
            if page >= 0 and freed[page]:
                freed[page] = 0
                counts[_At.HELD] -= 1
        elif kind == Kind.MAP:
            page = number_of(start, end, first, begin)
            if page >= 0:
                barrier[page] = True
        out[counts[_At.OUT]] = event
        counts[_At.OUT] += 1
    if steps:
        rest = counts[_At.LAST] + wait
        _decay(address, barrier, freed, queue, out, counts, backlog, curve, interval, rest)
    while counts[_At.HEAD] < counts[_At.TAIL]:
        _take_oldest(address, barrier, freed, queue, out, counts, _END)


def _smootherstep() -> Curve:
    """The share of pages that may still wait, of the oldest first (smoothstep.h)."""
    x = np.arange(1, _STEPS + 1) / _STEPS
    curve: Curve = 6 * x**5 - 15 * x**4 + 10 * x**3
    return curve


def delayed_purge(
    events: EventBatch, wait_ns: int, limit_bytes: int = 0, *, steps: bool = False
) -> EventBatch:
    """What a process would have done that purges `wait_ns` later than it did.

    At the end everything that still waits is purged: the process is taken to rest
    until then.

    Args:
        events: (n,) of `EVENT`, in order.
        wait_ns: how much longer freed memory is held, or `FOREVER`.
        limit_bytes: a free range of this size is purged at once; 0: however large.
        steps: whether some of it is purged before its time is over.

    Returns:
        (m,) of `EVENT`, m at most 2 n.
    """
    ranges = purged_by(events)
    if ranges.pages == 0:
        return events
    lengths = (ranges.end - ranges.start) >> PAGE_SHIFT
    address = np.repeat(ranges.start - (ranges.first << PAGE_SHIFT), lengths)
    address += np.arange(ranges.pages, dtype=np.int64) << PAGE_SHIFT
    purges = int(np.count_nonzero(events["kind"] == Kind.DONTNEED))
    out = np.empty(2 * len(events), EVENT)
    counts = np.zeros(_At.NUMBER, np.int64)
    _hold(
        events, wait_ns, limit_bytes >> PAGE_SHIFT or FOREVER, steps,
        ranges.start, ranges.end, ranges.first, address, np.zeros(ranges.pages, np.bool_),
        np.zeros(ranges.pages, np.int64), np.empty((purges, 3), np.int64), out, counts,
        np.zeros(_STEPS, np.int64), _smootherstep(),
    )  # fmt: skip
    return out[: counts[_At.OUT]].copy()
