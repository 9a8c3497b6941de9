# SPDX-License-Identifier: GPL-2.0-only
"""The integral of the PTE pages of each policy over time.

`State.area` is complete up to the counter NOW. Events and readings advance NOW. Nothing
changes between them, so the counts at NOW determine the integral up to any later moment.
"""

import numpy as np
import numpy.typing as npt

from shadow.policy import POLICIES
from shadow.table.compiled import entry, inlined
from shadow.table.counters import Counter
from shadow.table.state import State

__all__ = ("advance", "advance_clock", "area_until")

_POLICIES = len(POLICIES)


@inlined
def advance_clock(s: State, time: int) -> None:
    """Advance NOW to `time` (ns) and integrate over the elapsed time.

    Events of different CPUs may be out of order by less than a microsecond, but NOW never
    decreases. The time before the first event or seed does not count as observed.
    """
    now = s.counters[Counter.NOW]
    if time <= now:
        return
    if now:
        passed = float(time - now)
        for policy in range(_POLICIES):
            s.area[policy] += passed * s.counters[Counter.TABLES + policy]
        s.area[_POLICIES] += passed
    s.counters[Counter.NOW] = time


@entry
def advance(s: State, time: int) -> None:
    """`advance_clock` for callers outside the loop over events."""
    advance_clock(s, time)


def area_until(s: State, time: int) -> npt.NDArray[np.float64]:
    """`State.area` at `time` (ns) if no event comes before it; the state does not change.

    Snapshots use this function, so the number of snapshots does not change the rounding of
    a float, and a replay gives the same bits as the live run.
    """
    area = s.area.copy()
    now = int(s.counters[Counter.NOW])
    if now and time > now:
        tables = s.counters[Counter.TABLES : Counter.TABLES + _POLICIES]
        area += float(time - now) * np.append(tables, 1)
    return area
