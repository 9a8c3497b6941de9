# SPDX-License-Identifier: GPL-2.0-only
"""What-if: munmap instead of purges, as with jemalloc's retain:false.

Before a fault in unmapped memory, the transform inserts a mapping of that page. The real
kernel would choose new addresses, but the transform keeps those of the history. So the
number of VMAs is an upper bound if reuse is scattered.
"""

import numpy as np
import numpy.typing as npt

from shadow.events import EVENT, MAP_FLAGS_SHIFT, EventBatch, Kind
from shadow.geometry import X86_64, Geometry
from shadow.table.compiled import entry, signed
from shadow.uapi import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE
from shadow.whatif.purge_index import Numbers, number_of, purged_by

__all__ = ("munmap_for_purge",)

_MAP_AUX = PROT_READ | PROT_WRITE | (MAP_PRIVATE | MAP_ANONYMOUS) << MAP_FLAGS_SHIFT


@entry
def _return(
    events: EventBatch,
    start: Numbers,
    end: Numbers,
    first: Numbers,
    page_shift: int,
    gone: npt.NDArray[np.bool_],
    out: EventBatch,
) -> int:
    count, size = 0, 1 << page_shift
    for i in range(len(events)):
        event = events[i]
        kind = signed(event.kind)
        page = -1
        if kind == Kind.DONTNEED or kind == Kind.FAULT:
            page = number_of(start, end, first, page_shift, signed(event.address))
        if kind == Kind.FAULT and page >= 0 and gone[page]:
            gone[page] = False
            out[count] = event
            out[count].address = signed(event.address) & -size
            out[count].length = size
            out[count].kind = Kind.MAP
            out[count].aux = _MAP_AUX
            count += 1
        out[count] = event
        count += 1
        if kind == Kind.DONTNEED:
            for unmapped in range(page, page + (signed(event.length) >> page_shift)):
                gone[unmapped] = True
            out[count - 1].kind = Kind.UNMAP_BEGIN
            out[count - 1].aux = 0
            out[count] = out[count - 1]
            out[count].kind = Kind.UNMAP
            count += 1
    return count


def munmap_for_purge(events: EventBatch, geometry: Geometry = X86_64) -> EventBatch:
    """The events of the process if it unmapped memory instead of purging it.

    Args:
        events: (n,) of `EVENT`, in order.
        geometry: the page tables of the process.

    Returns:
        (m,) of `EVENT`, m at most 2 n.
    """
    ranges = purged_by(events, geometry.page_shift)
    out = np.empty(2 * len(events), EVENT)
    gone = np.zeros(ranges.pages, np.bool_)
    count = _return(events, ranges.start, ranges.end, ranges.first, ranges.page_shift, gone, out)
    return out[:count].copy()
