# SPDX-License-Identifier: GPL-2.0-only
"""Freed memory that waits for its purge: the state, and the operations on it.

Compiled functions pass the state to each other.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shadow.events import EVENT, EventBatch, Kind
from shadow.table.compiled import inlined
from shadow.uapi import MADV_DONTNEED
from shadow.whatif.free_runs import (
    FreeRuns,
    end_of_run,
    first_of_run,
    freed_at,
    new_free_runs,
    newest,
    set_freed,
)
from shadow.whatif.purge_index import Numbers, Purged, number_of

__all__ = ("At", "Curve", "Waiting", "free", "nothing_waits", "take_oldest", "use")

Curve = npt.NDArray[np.float64]


class At(IntEnum):
    """Places in `Waiting.numbers`."""

    WAIT = 0
    """Additional delay of purges, ns."""
    LIMIT = 1
    """Pages at which a free range is purged at once."""
    INTERVAL = 2
    """Time between steps, ns; 0: no steps."""
    TGID = 3
    LAST = 4
    """The end of the history, ns; later purges happen then."""
    OUT = 5
    """Number of events written."""
    HEAD = 6
    """The oldest row of the queue that is not handled yet."""
    TAIL = 7
    HELD = 8
    """Number of pages that wait."""
    UNPURGED = 9
    """Number of pages that waited, or were allowed to, after the last step."""
    EPOCH = 10
    """Time of the last step, ns."""
    FULL = 11
    """1: `out` was too short for the events."""
    PAGE_SHIFT = 12
    """Bits of an address within a page."""
    COUNT = 13


class Waiting(NamedTuple):
    """The memory that waits; arrays only, because compiled functions pass it to each other."""

    start: Numbers
    """(ranges,) see `Purged`; likewise the next two"""
    end: Numbers
    first: Numbers
    runs: FreeRuns
    queue: Numbers
    """(purges, 3) time, first page, page after the last; in order"""
    out: EventBatch
    numbers: Numbers
    """see `At`"""
    backlog: Numbers
    """(steps,) pages freed in each of the last intervals"""
    curve: Curve
    """(steps,) the share of each interval's pages that may still wait"""


@inlined
def _purge(w: Waiting, low: int, high: int, time: int) -> None:
    """Write one MADV_DONTNEED over the pages [low, high)."""
    for page in range(low, high):
        set_freed(w.runs, page, 0)
    w.numbers[At.HELD] -= high - low
    at = w.numbers[At.OUT]
    if at == len(w.out):
        w.numbers[At.FULL] = 1
        return
    w.out[at].time = min(time, w.numbers[At.LAST])
    w.out[at].address = w.runs.address[low]
    w.out[at].length = (high - low) << w.numbers[At.PAGE_SHIFT]
    w.out[at].tgid = w.numbers[At.TGID]
    w.out[at].tid = w.numbers[At.TGID]
    w.out[at].kind = Kind.DONTNEED
    w.out[at].cpu = 0
    w.out[at].aux = MADV_DONTNEED
    w.numbers[At.OUT] = at + 1


@inlined
def take_oldest(w: Waiting, time: int) -> None:
    """Purge the memory of the oldest queue row, unless it has merged with younger memory."""
    head = w.numbers[At.HEAD]
    w.numbers[At.HEAD] = head + 1
    when = w.queue[head, 0]
    page = w.queue[head, 1]
    while page < w.queue[head, 2]:
        if freed_at(w.runs, page) != when:  # reused, already purged, or freed again later
            page += 1
            continue
        low, high = first_of_run(w.runs, page), end_of_run(w.runs, page)
        if newest(w.runs, low, high) == when:
            _purge(w, low, high, time)
        page = high


@inlined
def free(w: Waiting, begin: int, length: int, now: int) -> None:
    """Free a range, which waits from now on."""
    now = max(now, 1)  # 0: a page does not wait
    shift = w.numbers[At.PAGE_SHIFT]
    size = 1 << shift
    first = begin & -size
    page = number_of(w.start, w.end, w.first, shift, first)
    beyond = page + ((begin + length + size - 1 - first) >> shift)
    for number in range(page, beyond):
        if freed_at(w.runs, number) == 0:
            w.numbers[At.HELD] += 1
        set_freed(w.runs, number, now)
    tail = w.numbers[At.TAIL]
    w.queue[tail, 0] = now
    w.queue[tail, 1] = page
    w.queue[tail, 2] = beyond
    w.numbers[At.TAIL] = tail + 1
    low, high = first_of_run(w.runs, page), end_of_run(w.runs, beyond - 1)
    if high - low >= w.numbers[At.LIMIT]:
        _purge(w, low, high, now)


@inlined
def use(w: Waiting, address: int) -> None:
    """Reuse a page, which does not wait any longer."""
    page = number_of(w.start, w.end, w.first, w.numbers[At.PAGE_SHIFT], address)
    if page >= 0 and freed_at(w.runs, page):
        set_freed(w.runs, page, 0)
        w.numbers[At.HELD] -= 1


def _addresses(ranges: Purged) -> Numbers:
    """(pages,) the address of each page."""
    shift = ranges.page_shift
    lengths = (ranges.end - ranges.start) >> shift
    address = np.repeat(ranges.start - (ranges.first << shift), lengths)
    address += np.arange(ranges.pages, dtype=np.int64) << shift
    return address


def nothing_waits(events: EventBatch, ranges: Purged, curve: Curve, room: int) -> Waiting:
    """The state before the first event; see `Waiting.curve`; `room` is the length of `out`."""
    numbers = np.zeros(At.COUNT, np.int64)
    numbers[At.TGID] = events["tgid"][0]
    numbers[At.EPOCH] = events["time"][0]
    numbers[At.LAST] = events["time"][-1]
    numbers[At.PAGE_SHIFT] = ranges.page_shift
    purges = int(np.count_nonzero(events["kind"] == Kind.DONTNEED))
    return Waiting(
        start=ranges.start,
        end=ranges.end,
        first=ranges.first,
        runs=new_free_runs(_addresses(ranges), 1 << ranges.page_shift),
        queue=np.empty((purges, 3), np.int64),
        out=np.empty(room, EVENT),
        numbers=numbers,
        backlog=np.zeros(len(curve), np.int64),
        curve=curve,
    )
