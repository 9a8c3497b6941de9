# SPDX-License-Identifier: GPL-2.0-only
"""Numbers the pages that a process purges, so that a transform can mark each.

Purges return to the same places, so their union is far smaller than their sum.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shadow.events import EventBatch, Kind
from shadow.table.compiled import compiled, signed

__all__ = ("Purged", "number_of", "purged_by")

Numbers = npt.NDArray[np.int64]


class Purged(NamedTuple):
    """Disjoint ranges, ascending; `first` is the number of the first page of each range."""

    start: Numbers
    end: Numbers
    first: Numbers
    pages: int
    page_shift: int


def purged_by(events: EventBatch, page_shift: int) -> Purged:
    """The union of all MADV_DONTNEED ranges in `events`, in pages; adjacent ones are merged."""
    page = 1 << page_shift
    purges = events[events["kind"] == Kind.DONTNEED]
    address = purges["address"].astype(np.int64)
    order = np.argsort(address, kind="stable")
    start = address[order] & -page
    end = (address + purges["length"].astype(np.int64))[order] + page - 1 & -page
    reach = np.maximum.accumulate(end) if len(end) else end
    fresh = np.ones(len(start), np.bool_)
    fresh[1:] = start[1:] > reach[:-1]
    begins = np.flatnonzero(fresh)
    starts = start[begins]
    ends = reach[np.append(begins[1:], len(reach)) - 1] if len(begins) else starts
    pages = (ends - starts) >> page_shift
    return Purged(starts, ends, np.cumsum(pages) - pages, int(pages.sum()), page_shift)


@compiled
def number_of(start: Numbers, end: Numbers, first: Numbers, page_shift: int, address: int) -> int:
    """The number of the page at `address`, or -1 if it is never purged."""
    low, high = 0, len(start)
    while low < high:
        middle = (low + high) >> 1
        if end[middle] > address:
            high = middle
        else:
            low = middle + 1
    if low == len(start) or start[low] > address:
        return -1
    return signed(first[low]) + ((address - signed(start[low])) >> page_shift)
