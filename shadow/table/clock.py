# SPDX-License-Identifier: GPL-2.0-only
"""Time: the PTE pages of each policy integrated over it.

`State.area` is complete up to the counter NOW. Events and readings move NOW on. Between
them nothing changes, so the integral up to any later moment follows from the counts at NOW.
"""

import numpy as np
import numpy.typing as npt

from shadow.policy import POLICIES
from shadow.table.jit import compiled, inlined
from shadow.table.state import Counter, State

__all__ = ("advance", "advance_clock", "area_until")

_POLICIES = len(POLICIES)


@inlined
def advance_clock(s: State, time: int) -> None:
    """Move NOW on to `time` (ns) and integrate over the time passed.

    Events of different CPUs may be out of order by less than a microsecond;
    time never runs back here. Time before the first event or seed is not observed.
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


@compiled
def advance(s: State, time: int) -> None:
    """The same, for callers outside the loop over events."""
    advance_clock(s, time)


def area_until(s: State, time: int) -> npt.NDArray[np.float64]:
    """`State.area` as it is at `time` (ns) if no event comes before; the state stays as it is.

    A snapshot is taken by this, so that how often somebody looks does not change a
    float by rounding: a replay gives the same bits as the live run.
    """
    area = s.area.copy()
    now = int(s.counters[Counter.NOW])
    if now and time > now:
        tables = s.counters[Counter.TABLES : Counter.TABLES + _POLICIES]
        area += float(time - now) * np.append(tables, 1)
    return area
