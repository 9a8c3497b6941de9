# SPDX-License-Identifier: GPL-2.0-only
"""What-if: delayed purges, as jemalloc delays them by its decay time.

Freed memory waits. The transform does not purge memory that the process reuses in the
meantime. After the delay, it purges the rest together with all free neighbours. When
neighbours merge, their delay starts again (jemalloc 5.3, src/extent.c: extents coalesce
while they are dirty, and a merged one goes to the young end of the list that decay works
off). Extents do not merge across the beginning of a mapping
(`extent_neighbor_head_state_mergeable`), and jemalloc purges an extent at once when it
reaches oversize_threshold (`extent_record`).

The result is the upper bound on the gain. jemalloc purges in steps during the delay
(src/decay.c): the pages freed at each moment have a limit, which falls along a curve from
all of them to none. With `steps`, the transform purges the excess over that limit, oldest
first, as soon as it suffices to wake the background thread. The size of the excess depends
on how fast the process frees memory, and a process that purges at once frees more slowly
than it will under the change. All arenas count as one.
"""

import numpy as np

from shadow.events import EventBatch, Kind
from shadow.geometry import X86_64, Geometry
from shadow.memory_limit import NoRoomError
from shadow.table.compiled import compiled, entry, inlined, signed
from shadow.whatif.free_runs import divide
from shadow.whatif.purge_index import number_of, purged_by
from shadow.whatif.waiting import At, Curve, Waiting, free, nothing_waits, take_oldest, use

__all__ = ("FOREVER", "delayed_purge")

FOREVER = 1 << 62
"""A delay that lasts until the process is idle."""
_END = (1 << 63) - 1
"""A time after the delay of all waiting memory."""
_ROOM = (2, 16, 128)
"""Events that the transform may make of each; small histories may need more."""
_STEPS = 200
_SHORTEST_STEP_NS = 1_000_000
_BATCH_PAGES = 1024
"""BACKGROUND_THREAD_NPAGES_THRESHOLD (background_thread_structs.h)."""


@compiled
def _step(w: Waiting) -> int:
    """Do one step of the curve; return how many pages may wait (decay_backlog_update)."""
    for i in range(_STEPS - 1):
        w.backlog[i] = w.backlog[i + 1]
    w.backlog[_STEPS - 1] = max(w.numbers[At.HELD] - w.numbers[At.UNPURGED], 0)
    allowed = 0.0
    for i in range(_STEPS):
        allowed += w.backlog[i] * w.curve[i]
    return int(allowed)


@compiled
def _decay(w: Waiting, now: int) -> None:
    """Do all steps up to `now`."""
    interval = w.numbers[At.INTERVAL]
    while w.numbers[At.HELD] and w.numbers[At.EPOCH] + interval <= now:
        w.numbers[At.EPOCH] += interval
        limit = _step(w)
        if w.numbers[At.HELD] - limit >= _BATCH_PAGES:
            while w.numbers[At.HELD] > limit and w.numbers[At.HEAD] < w.numbers[At.TAIL]:
                take_oldest(w, w.numbers[At.EPOCH])
        w.numbers[At.UNPURGED] = max(w.numbers[At.HELD], limit)
    if w.numbers[At.EPOCH] + interval <= now:  # nothing waits
        w.backlog[:] = 0
        w.numbers[At.UNPURGED] = 0
        w.numbers[At.EPOCH] = now


@inlined
def _purge_due(w: Waiting, now: int) -> None:
    """Purge all memory whose delay is over at `now`."""
    if w.numbers[At.INTERVAL] and w.numbers[At.EPOCH] + w.numbers[At.INTERVAL] <= now:
        _decay(w, now)
    while w.numbers[At.HEAD] < w.numbers[At.TAIL]:
        due = w.queue[w.numbers[At.HEAD], 0] + w.numbers[At.WAIT]
        if due > now:
            return
        take_oldest(w, due)


@entry
def _hold(w: Waiting, events: EventBatch) -> None:
    """Write `events` to `w.out`, with delayed purges."""
    for i in range(len(events)):
        event = events[i]
        now, kind, begin = signed(event.time), signed(event.kind), signed(event.address)
        _purge_due(w, now)
        if kind == Kind.DONTNEED:
            free(w, begin, signed(event.length), now)
            continue
        if kind == Kind.FAULT:
            use(w, begin)
        elif kind == Kind.MAP:
            page = number_of(w.start, w.end, w.first, w.numbers[At.PAGE_SHIFT], begin)
            if page >= 0:
                divide(w.runs, page)
        if w.numbers[At.OUT] == len(w.out):
            w.numbers[At.FULL] = 1
        if w.numbers[At.FULL]:
            return
        w.out[w.numbers[At.OUT]] = event
        w.numbers[At.OUT] += 1
    if w.numbers[At.INTERVAL]:
        _decay(w, w.numbers[At.LAST] + w.numbers[At.WAIT])
    while w.numbers[At.HEAD] < w.numbers[At.TAIL]:
        take_oldest(w, _END)


def _smootherstep() -> Curve:
    """The share of pages that may still wait, by age, oldest first (smoothstep.h)."""
    x = np.arange(1, _STEPS + 1) / _STEPS
    curve: Curve = 6 * x**5 - 15 * x**4 + 10 * x**3
    return curve


def delayed_purge(
    events: EventBatch,
    wait_ns: int,
    limit_bytes: int = 0,
    *,
    steps: bool = False,
    geometry: Geometry = X86_64,
) -> EventBatch:
    """The events of the process with each purge delayed by `wait_ns`.

    At the end, the transform purges all memory that still waits: it assumes that the process
    is idle until then.

    Args:
        events: (n,) of `EVENT`, in order.
        wait_ns: additional delay of purges, or `FOREVER`.
        limit_bytes: size at which a free range is purged at once; 0: no such limit.
        steps: whether to purge a part in steps during the delay.
        geometry: the page tables of the process.

    Returns:
        (m,) of `EVENT`. A purge over several mappings becomes one purge for each.

    Raises:
        NoRoomError: the purges become too many.
    """
    ranges = purged_by(events, geometry.page_shift)
    if ranges.pages == 0:
        return events
    for factor in _ROOM:
        waiting = nothing_waits(events, ranges, _smootherstep(), factor * len(events))
        numbers = waiting.numbers
        numbers[At.WAIT] = wait_ns
        numbers[At.LIMIT] = limit_bytes >> geometry.page_shift or FOREVER
        if steps:
            numbers[At.INTERVAL] = max(wait_ns // _STEPS, _SHORTEST_STEP_NS)
        _hold(waiting, events)
        if not numbers[At.FULL]:
            return waiting.out[: numbers[At.OUT]].copy()
    raise NoRoomError("delayed purges fall into too many parts")
