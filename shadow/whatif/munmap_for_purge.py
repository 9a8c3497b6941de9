# SPDX-License-Identifier: GPL-2.0-only
"""Purges made munmap, as jemalloc's retain:false does.

What is used again later must be mapped again first: a mapping of that page is put in
before the fault. The kernel would choose the place anew, so addresses are those of the
history and the number of VMAs is a bound from above for scattered ones.
"""

import numpy as np
import numpy.typing as npt

from shadow.events import EVENT, MAP_FLAGS_SHIFT, EventBatch, Kind
from shadow.geometry import PAGE, PAGE_SHIFT
from shadow.table.jit import compiled, signed
from shadow.uapi import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE
from shadow.whatif.purge_index import Numbers, number_of, purged_by

__all__ = ("munmap_for_purge",)

_MAP_AUX = PROT_READ | PROT_WRITE | (MAP_PRIVATE | MAP_ANONYMOUS) << MAP_FLAGS_SHIFT


@compiled
def _return(
    events: EventBatch,
    start: Numbers,
    end: Numbers,
    first: Numbers,
    gone: npt.NDArray[np.bool_],
    out: EventBatch,
) -> int:
    count = 0
    for i in range(len(events)):
        event = events[i]
        kind = signed(event.kind)
        page = -1
        if kind == Kind.DONTNEED or kind == Kind.FAULT:
            page = number_of(start, end, first, signed(event.address) & -PAGE)
        if kind == Kind.FAULT and page >= 0 and gone[page]:
            gone[page] = False
            out[count] = event
            out[count].address = signed(event.address) & -PAGE
            out[count].length = PAGE
            out[count].kind = Kind.MAP
            out[count].aux = _MAP_AUX
            count += 1
        out[count] = event
        count += 1
        if kind == Kind.DONTNEED:
            for unmapped in range(page, page + (signed(event.length) >> PAGE_SHIFT)):
                gone[unmapped] = True
            out[count - 1].kind = Kind.UNMAP_BEGIN
            out[count - 1].aux = 0
            out[count] = out[count - 1]
            out[count].kind = Kind.UNMAP
            count += 1
    return count


def munmap_for_purge(events: EventBatch) -> EventBatch:
    """What a process would have done that unmaps what it purges.

    Args:
        events: (n,) of `EVENT`, in order.

    Returns:
        (m,) of `EVENT`, m at most 2 n.
    """
    ranges = purged_by(events)
    out = np.empty(2 * len(events), EVENT)
    gone = np.zeros(ranges.pages, np.bool_)
    count = _return(events, ranges.start, ranges.end, ranges.first, gone, out)
    return out[:count].copy()
