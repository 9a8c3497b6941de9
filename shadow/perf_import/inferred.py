# SPDX-License-Identifier: GPL-2.0-only
"""What events alone let one conclude of a process that was not read."""

import numpy as np
import numpy.typing as npt

from shadow.events import EventBatch, Kind
from shadow.geometry import PAGE, SLOT
from shadow.table import VMA, VmaFlag

__all__ = ("inferred", "purges")

_RWX = VmaFlag.READ | VmaFlag.WRITE | VmaFlag.EXEC | VmaFlag.ACCOUNT


def inferred(events: EventBatch) -> npt.NDArray[np.void]:
    """(n,) of `VMA`: where pages were touched that no MAP among these events had mapped.

    Readable, writable, anonymous: nothing is known of them but that they were there.
    """
    faults = events["kind"] == Kind.FAULT
    touched = events["address"][faults].astype(np.int64) & -PAGE
    pages, first = np.unique(touched, return_index=True)
    when = np.flatnonzero(faults)[first]
    known = np.zeros(len(pages), np.bool_)
    for at in np.flatnonzero(events["kind"] == Kind.MAP).tolist():
        start, length = int(events["address"][at]), int(events["length"][at])
        low, high = np.searchsorted(pages, (start, start + length))
        known[low:high] |= when[low:high] > at
    pages = pages[~known]
    begins = np.flatnonzero(np.diff(pages, prepend=-1) != PAGE)
    ends = np.append(begins[1:], len(pages)) - 1
    vmas = np.zeros(len(begins), VMA)
    if len(pages):
        vmas["start"], vmas["end"] = pages[begins], pages[ends] + PAGE
    vmas["flags"], vmas["pgoff"] = _RWX, vmas["start"] // PAGE
    return vmas


def purges(events: EventBatch) -> list[str]:
    """A sentence on the calls of MADV_DONTNEED, which need no faults to be judged."""
    calls = events[events["kind"] == Kind.DONTNEED]
    if not len(calls):
        return []
    start, length = calls["address"].astype(np.int64), calls["length"].astype(np.int64)
    covering = np.count_nonzero(-(-start // SLOT) * SLOT + SLOT <= start + length)
    return [
        f"{covering:,} of {len(calls):,} calls of MADV_DONTNEED covered a slot of 2 MiB whole, as "
        f"pt_reclaim needs it; half of them had {int(np.median(length)) >> 10:,} KiB or less."
    ]
