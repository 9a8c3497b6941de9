# SPDX-License-Identifier: GPL-2.0-only
"""Events against the user address space: what a call named, and what can lie there.

Programs call munmap, madvise and mlock with addresses and lengths that are nonsense, and
the kernel does with them what lies in user space, if anything. Probes tell the arguments
as they were. So events of a live process are cut to user space before anything is made
of them, and a trace whose events are not was not recorded.
"""

import numpy as np
import numpy.typing as npt

from shadow.events import EventBatch, Kind

__all__ = ("clipped", "outside")

_LOCKS = (Kind.LOCK, Kind.UNLOCK)


def outside(events: EventBatch, limit: int) -> npt.NDArray[np.bool_]:
    """Which events do not lie in the address space below `limit`."""
    start, length, most = events["address"], events["length"], np.uint64(limit)
    beyond: npt.NDArray[np.bool_] = (start > most) | (length > most - np.minimum(start, most))
    return beyond


def _idle_locks(events: EventBatch) -> npt.NDArray[np.bool_]:
    """mlock and munlock of nothing, which have no effect; at address 0 they are mlockall."""
    empty: npt.NDArray[np.bool_] = (events["length"] == 0) & (events["address"] != 0)
    return empty & np.isin(events["kind"], _LOCKS)


def clipped(events: EventBatch, limit: int) -> EventBatch:
    """The parts of events that lie in the address space below `limit`.

    The batch itself where that is all of it.
    """
    beyond = outside(events, limit)
    if beyond.any():
        inside = events["address"] < np.uint64(limit)
        events = events.copy()
        events["length"][beyond & inside] = np.uint64(limit) - events["address"][beyond & inside]
        events = events[inside | ~beyond]
    idle = _idle_locks(events)
    return events[~idle] if idle.any() else events
