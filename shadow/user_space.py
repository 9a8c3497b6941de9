# SPDX-License-Identifier: GPL-2.0-only
"""Clamping of events to the user address space.

Programs call munmap, madvise and mlock with meaningless addresses and lengths. The kernel
applies such a call to the part of its range in user space, if any, but the probes report
the arguments as given. So ptescope clamps the events of a live process to user space before
it uses them. A trace with events outside user space does not come from a recorder.
"""

import numpy as np
import numpy.typing as npt

from shadow.events import EventBatch, Kind, kinds_of

__all__ = ("clipped", "outside")

_LOCKS = {Kind.LOCK, Kind.UNLOCK}


def outside(events: EventBatch, limit: int) -> npt.NDArray[np.bool_]:
    """(n,) whether each event reaches outside the address space below `limit`."""
    start, length, most = events["address"], events["length"], np.uint64(limit)
    beyond: npt.NDArray[np.bool_] = (start > most) | (length > most - np.minimum(start, most))
    return beyond


def _idle_locks(events: EventBatch) -> npt.NDArray[np.bool_]:
    """(n,) whether each event is an mlock or munlock of length 0, which has no effect.

    At address 0, such an event is an mlockall or munlockall.
    """
    empty: npt.NDArray[np.bool_] = (events["length"] == 0) & (events["address"] != 0)
    return empty & np.isin(events["kind"], list(_LOCKS))


def clipped(events: EventBatch, limit: int) -> EventBatch:
    """Clamp events to the address space below `limit`."""
    reach = int(events["address"].max(initial=0)) + int(events["length"].max(initial=0))
    if reach > limit:
        beyond = outside(events, limit)
        inside = events["address"] < np.uint64(limit)
        events = events.copy()
        events["length"][beyond & inside] = np.uint64(limit) - events["address"][beyond & inside]
        events = events[inside | ~beyond]
    if kinds_of(events) & _LOCKS:
        events = events[~_idle_locks(events)]
    return events
