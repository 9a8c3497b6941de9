"""Purges held back for a while, as a longer decay time does.

Freed memory waits. What is used again meanwhile is not purged at all. What is left
when the time is over is purged together with all free neighbours, whose own time
starts anew when they merge (jemalloc 5.3, src/extent.c: extents coalesce while they are
dirty, and a merged one goes to the young end of the list that decay works off). They do
not merge across the beginning of a mapping (`extent_neighbor_head_state_mergeable`), and
one that has grown to oversize_threshold is purged at once (`extent_record`).

This is the most that waiting can bring. jemalloc purges in steps before the time is over
(src/decay.c), how much depends on how fast memory is freed, and a process that purges at
once is slower at that than it will be under the change.
"""

import numpy as np
import numpy.typing as npt

from shadow.events import EVENT, EventBatch, Kind
from shadow.geometry import PAGE, PAGE_SHIFT
from shadow.table.compiled import compiled, signed
from shadow.whatif.purged import Numbers, number_of, purged_by

__all__ = ("FOREVER", "held")

_MADV_DONTNEED = 4
FOREVER = 1 << 62
"""A time to wait: until the process rests."""
_END = (1 << 63) - 1
"""After all that waits."""
_OUT, _HEAD, _TAIL = 0, 1, 2

Flags = npt.NDArray[np.bool_]


@compiled
def _emit(
    out: EventBatch, places: Numbers, like: EventBatch, time: int, start: int, length: int
) -> None:
    at = places[_OUT]
    out[at].time = time
    out[at].address = start
    out[at].length = length
    out[at].tgid = like[0].tgid
    out[at].tid = like[0].tgid
    out[at].kind = Kind.DONTNEED
    out[at].cpu = 0
    out[at].aux = _MADV_DONTNEED
    places[_OUT] = at + 1


@compiled
def _first_of_run(address: Numbers, barrier: Flags, due: Numbers, page: int) -> int:
    while (
        page > 0
        and due[page - 1]
        and not barrier[page]
        and address[page] - address[page - 1] == PAGE
    ):
        page -= 1
    return page


@compiled
def _end_of_run(address: Numbers, barrier: Flags, due: Numbers, page: int) -> int:
    page += 1
    while (
        page < len(due)
        and due[page]
        and not barrier[page]
        and address[page] - address[page - 1] == PAGE
    ):
        page += 1
    return page


@compiled
def _purge(
    address: Numbers, due: Numbers, out: EventBatch, places: Numbers, like: EventBatch,
    low: int, high: int, time: int,
) -> None:  # fmt: skip
    for purged in range(low, high):
        due[purged] = 0
    _emit(out, places, like, time, address[low], (high - low) << PAGE_SHIFT)


@compiled
def _purge_due(
    address: Numbers,
    barrier: Flags,
    due: Numbers,
    queue: Numbers,
    out: EventBatch,
    places: Numbers,
    like: EventBatch,
    now: int,
    last: int,
) -> None:
    while places[_HEAD] < places[_TAIL] and queue[places[_HEAD], 0] <= now:
        head = places[_HEAD]
        places[_HEAD] = head + 1
        when = queue[head, 0]
        page = queue[head, 1]
        while page < queue[head, 2]:
            if due[page] != when:  # used again, purged already, or freed again later
                page += 1
                continue
            low = _first_of_run(address, barrier, due, page)
            high = _end_of_run(address, barrier, due, page)
            newest = when
            for merged in range(low, high):
                newest = max(newest, due[merged])
            if newest == when:
                _purge(address, due, out, places, like, low, high, min(when, last))
            page = high


@compiled
def _hold(
    events: EventBatch,
    wait: int,
    limit: int,
    start: Numbers,
    end: Numbers,
    first: Numbers,
    address: Numbers,
    barrier: Flags,
    due: Numbers,
    queue: Numbers,
    out: EventBatch,
    places: Numbers,
) -> None:
    last = signed(events[len(events) - 1].time)
    for i in range(len(events)):
        event = events[i]
        now = signed(event.time)
        _purge_due(address, barrier, due, queue, out, places, events, now, last)
        kind = signed(event.kind)
        begin = signed(event.address)
        if kind == Kind.DONTNEED:
            page = number_of(start, end, first, begin)
            pages = signed(event.length) >> PAGE_SHIFT
            for freed in range(page, page + pages):
                due[freed] = now + wait
            tail = places[_TAIL]
            queue[tail, 0] = now + wait
            queue[tail, 1] = page
            queue[tail, 2] = page + pages
            places[_TAIL] = tail + 1
            low = _first_of_run(address, barrier, due, page)
            high = _end_of_run(address, barrier, due, page + pages - 1)
            if high - low >= limit:
                _purge(address, due, out, places, events, low, high, now)
            continue
        if kind == Kind.FAULT:
            page = number_of(start, end, first, begin & -PAGE)
            if page >= 0:
                due[page] = 0
        elif kind == Kind.MAP:
            page = number_of(start, end, first, begin)
            if page >= 0:
                barrier[page] = True
        out[places[_OUT]] = event
        places[_OUT] += 1
    _purge_due(address, barrier, due, queue, out, places, events, _END, last)


def held(events: EventBatch, wait_ns: int, limit_bytes: int = 0) -> EventBatch:
    """What a process would have done that purges `wait_ns` later than it did.

    At the end everything that still waits is purged: the process is taken to rest
    until then.

    Args:
        events: (n,) of `EVENT`, in order.
        wait_ns: how much longer freed memory is held.
        limit_bytes: a free range of this size is purged at once; 0: however large.

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
    places = np.zeros(3, np.int64)
    _hold(
        events, wait_ns, limit_bytes >> PAGE_SHIFT or FOREVER,
        ranges.start, ranges.end, ranges.first, address,
        np.zeros(ranges.pages, np.bool_), np.zeros(ranges.pages, np.int64),
        np.empty((purges, 3), np.int64), out, places,
    )  # fmt: skip
    return out[: places[_OUT]].copy()
