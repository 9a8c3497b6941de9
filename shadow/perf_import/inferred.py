# SPDX-License-Identifier: GPL-2.0-only
"""Conclusions from events alone, for a process whose page tables were never read."""

import numpy as np
import numpy.typing as npt

from shadow.events import EventBatch, Kind
from shadow.geometry import Geometry
from shadow.table.vma import VMA, VmaFlag

__all__ = ("inferred", "purges")

_RWX = VmaFlag.READ | VmaFlag.WRITE | VmaFlag.EXEC | VmaFlag.ACCOUNT


def inferred(events: EventBatch, page: int) -> npt.NDArray[np.void]:
    """(n,) of `VMA`: the touched pages that no earlier MAP among these events had mapped.

    Only their existence is known, so they are assumed to be accessible and anonymous; `page` is
    the size of a page.
    """
    faults = events["kind"] == Kind.FAULT
    touched = events["address"][faults].astype(np.int64) & -page
    pages, first = np.unique(touched, return_index=True)
    when = np.flatnonzero(faults)[first]
    known = np.zeros(len(pages), np.bool_)
    for at in np.flatnonzero(events["kind"] == Kind.MAP).tolist():
        start, length = int(events["address"][at]), int(events["length"][at])
        low, high = np.searchsorted(pages, (start, start + length))
        known[low:high] |= when[low:high] > at
    pages = pages[~known]
    begins = np.flatnonzero(np.diff(pages, prepend=-1) != page)
    ends = np.append(begins[1:], len(pages)) - 1
    vmas = np.zeros(len(begins), VMA)
    if len(pages):
        vmas["start"], vmas["end"] = pages[begins], pages[ends] + page
    vmas["flags"], vmas["pgoff"] = _RWX, vmas["start"] // page
    return vmas


def purges(events: EventBatch, geometry: Geometry) -> list[str]:
    """A sentence about the MADV_DONTNEED calls, which needs no page faults."""
    calls = events[events["kind"] == Kind.DONTNEED]
    if not len(calls):
        return []
    start, length = calls["address"].astype(np.int64), calls["length"].astype(np.int64)
    slot = geometry.slot
    covering = np.count_nonzero(-(-start // slot) * slot + slot <= start + length)
    return [
        f"{covering:,} of {len(calls):,} calls of MADV_DONTNEED covered a whole slot of "
        f"{geometry.slot_text}, as pt_reclaim requires; the median call had "
        f"{int(np.median(length)) >> 10:,} KiB."
    ]
