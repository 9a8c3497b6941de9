# SPDX-License-Identifier: GPL-2.0-only
"""PTE pages as arrays, from any kind of reading, to seed a shadow or compare one with."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shadow.geometry import ENTRY_BYTES

__all__ = ("Pages", "Ranges", "in_slots", "merged", "overlapping")

Ranges = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Starts and ends of disjoint ranges, ascending, bytes."""
_WORD_BITS = 64


def overlapping(
    addresses: npt.NDArray[np.int64], ranges: Ranges, span: int
) -> npt.NDArray[np.bool_]:
    """(n,) whether each [address, address + span) overlaps any range."""
    starts, ends = ranges
    if len(starts) == 0:
        return np.zeros(len(addresses), np.bool_)
    last = np.searchsorted(starts, addresses + span, side="left") - 1
    return (last >= 0) & (ends[np.maximum(last, 0)] > addresses)


def merged(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> Ranges:
    """The union of ranges, sorted and disjoint."""
    order = np.argsort(starts)
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    begins = np.ones(len(starts), np.bool_)
    begins[1:] = starts[1:] > ends[:-1]
    last = np.append(np.flatnonzero(begins)[1:] - 1, len(starts) - 1)
    return starts[begins], ends[last[: int(begins.sum())]]


def in_slots(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], slot_bytes: int) -> Ranges:
    """The same ranges, cut where slots of this size end."""
    pieces = [
        (max(slot, start), min(slot + slot_bytes, end))
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        for slot in range(start & -slot_bytes, end, slot_bytes)
    ]
    cut = np.array(pieces, np.int64).reshape(-1, 2)
    return cut[:, 0], cut[:, 1]


@dataclass(frozen=True)
class Pages:
    """The lower levels of an address space.

    Attributes:
        slots: (n,) int64, ascending: first addresses of the slots with a PTE page.
        present: (n, words) uint64: maps of the entries that are not none, one row per slot.
        huge: (m,) int64, ascending: first addresses of leaf PMDs.
        huge_kind: (m,) uint8: HUGE_ANON or HUGE_FILE.
        exact: whether `slots` includes empty PTE pages; otherwise only those with entries.
        pmd_bases: (k,) int64, ascending: first addresses that PMD pages map.
        pud_bases: (l,) the same for PUD pages; both None if the upper levels were not read.
        within: the ranges that were read; None: everything.
        guards: guard markers in these ranges, each in one slot; None: they were not read.
    """

    slots: npt.NDArray[np.int64]
    present: npt.NDArray[np.uint64]
    huge: npt.NDArray[np.int64]
    huge_kind: npt.NDArray[np.uint8]
    exact: bool
    pmd_bases: npt.NDArray[np.int64] | None = None
    pud_bases: npt.NDArray[np.int64] | None = None
    within: Ranges | None = None
    guards: Ranges | None = None

    def __post_init__(self) -> None:
        assert len(self.present) == len(self.slots)
        for name in ("slots", "present", "huge", "huge_kind"):  # as compiled functions need them
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name)))

    @property
    def page(self) -> int:
        """Bytes of a page: as many as the entries of a PTE page take."""
        return self.present.shape[1] * _WORD_BITS * ENTRY_BYTES

    @property
    def slot_bytes(self) -> int:
        """Bytes that one PTE page maps."""
        return self.present.shape[1] * _WORD_BITS * self.page

    def entries(self) -> npt.NDArray[np.int64]:
        """(n,) int64: how many entries of each PTE page are not none."""
        return np.bitwise_count(self.present).sum(axis=1, dtype=np.int64)

    def entries_by_slot(self) -> dict[int, int]:
        """The number of entries of each PTE page, by the first address of its slot."""
        return dict(zip(self.slots.tolist(), self.entries().tolist(), strict=True))

    def restricted(self, within: Ranges) -> "Pages":
        """The part in slots that overlap these ranges."""
        pages = overlapping(self.slots, within, self.slot_bytes)
        huge = overlapping(self.huge, within, self.slot_bytes)
        guards = self.guards
        if guards is not None:
            kept = overlapping(guards[0] & -self.slot_bytes, within, self.slot_bytes)
            guards = guards[0][kept], guards[1][kept]
        return replace(
            self,
            slots=self.slots[pages],
            present=self.present[pages],
            huge=self.huge[huge],
            huge_kind=self.huge_kind[huge],
            pmd_bases=None,
            pud_bases=None,
            within=within,
            guards=guards,
        )
