# SPDX-License-Identifier: GPL-2.0-only
"""Conclusions from events alone, for a process whose page tables were never read."""

import numpy as np
import numpy.typing as npt

from shadow.events import EventBatch, Kind
from shadow.geometry import PAGE, SLOT
from shadow.table.state import VMA, VmaFlag

__all__ = ("inferred", "purges")

_RWX = VmaFlag.READ | VmaFlag.WRITE | VmaFlag.EXEC | VmaFlag.ACCOUNT


def inferred(events: EventBatch) -> npt.NDArray[np.void]:
    """(n,) of `VMA`: the touched pages that no earlier MAP among these events had mapped.

    Only their existence is known, so they are assumed to be accessible and anonymous.
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
    """A sentence about the MADV_DONTNEED calls, which needs no page faults."""
    calls = events[events["kind"] == Kind.DONTNEED]
    if not len(calls):
        return []
    start, length = calls["address"].astype(np.int64), calls["length"].astype(np.int64)
    covering = np.count_nonzero(-(-start // SLOT) * SLOT + SLOT <= start + length)
    return [
        f"{covering:,} of {len(calls):,} calls of MADV_DONTNEED covered a whole slot of 2 MiB, as "
        f"pt_reclaim requires; the median call had {int(np.median(length)) >> 10:,} KiB."
    ]
