# SPDX-License-Identifier: GPL-2.0-only
"""Splits page tables into the parts that are charged to owners; see `shadow.mappings`."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shadow.geometry import Geometry
from shadow.mapping_owners import Owners

__all__ = ("Addresses", "Ground", "Parts", "pte_parts", "upper_parts")

_WORD = 64
_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
Addresses = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Parts:
    """Parts of tables as (n,) columns, ascending by table.

    Attributes:
        table: the number of the table.
        owner: the number of the owner that is charged.
        weight: the weight of the part, relative to other parts of the same table.
    """

    table: Addresses
    owner: Addresses
    weight: Addresses

    def joined(self, others: "Parts") -> "Parts":
        """The parts of both, ascending by table; the two must have no table in common."""
        order = np.argsort(np.concatenate([self.table, others.table]), kind="stable")
        return Parts(
            np.concatenate([self.table, others.table])[order],
            np.concatenate([self.owner, others.owner])[order],
            np.concatenate([self.weight, others.weight])[order],
        )

    def charged(self, page: int) -> Addresses:
        """(n,) the bytes of each part; the parts of a table add up to exactly a `page`."""
        if not len(self.table):
            return self.weight
        begins = np.flatnonzero(np.diff(self.table, prepend=-1))
        number = np.cumsum(np.diff(self.table, prepend=-1) != 0) - 1
        total = np.add.reduceat(self.weight, begins)[number]
        upto = np.cumsum(self.weight)
        before = (upto - self.weight)[begins][number]
        # Round the running sums, not each part: the differences of rounded sums add up.
        upto -= before
        bytes_: Addresses = upto * page // total - (upto - self.weight) * page // total
        return bytes_


def _sorted(table: Addresses, owner: Addresses, weight: Addresses) -> Parts:
    """Merge parts with the same table and owner, and drop parts without weight."""
    width = int(owner.max(initial=0)) + 1
    keys, inverse = np.unique(table * width + owner, return_inverse=True)
    summed = np.bincount(inverse, weights=weight, minlength=len(keys)).astype(np.int64)
    kept = summed > 0
    return Parts(keys[kept] // width, keys[kept] % width, summed[kept])


class Ground:
    """The address space: VMAs with their owners, and an owner for unmapped addresses."""

    def __init__(self, vmas: npt.NDArray[np.void], owners: Owners) -> None:
        self.starts, self.ends = vmas["start"].astype(np.int64), vmas["end"].astype(np.int64)
        self._of = owners.of
        self.unmapped = len(owners.owners)

    def owner_at(self, addresses: Addresses) -> Addresses:
        """(n,) the owner of each address."""
        at = np.searchsorted(self.ends, addresses, side="right")
        inside = at < len(self.ends)
        inside[inside] = self.starts[at[inside]] <= addresses[inside]
        found = np.full(len(addresses), self.unmapped, np.int64)
        found[inside] = self._of[at[inside]]
        return found

    def under(
        self, bases: Addresses, span: int
    ) -> tuple[Addresses, Addresses, Addresses, Addresses]:
        """The VMAs in each [base, base + span): index of the base, owner, start, end."""
        first = np.searchsorted(self.ends, bases, side="right")
        count = np.maximum(np.searchsorted(self.starts, bases + span) - first, 0)
        table = np.repeat(np.arange(len(bases)), count)
        vma = np.arange(len(table)) - np.repeat(np.cumsum(count) - count - first, count)
        low = np.maximum(self.starts[vma], bases[table])
        return table, self._of[vma], low, np.minimum(self.ends[vma], bases[table] + span)

    def by_addresses(self, wanted: npt.NDArray[np.bool_], bases: Addresses, span: int) -> Parts:
        """The parts of the `wanted` tables by addresses, because they are empty."""
        (at,) = np.nonzero(wanted)
        table, owner, low, high = self.under(bases[at], span)
        nobody = np.setdiff1d(np.arange(len(at)), table)
        return _sorted(
            at[np.concatenate([table, nobody])],
            np.concatenate([owner, np.full(len(nobody), self.unmapped)]),
            np.concatenate([high - low, np.ones(len(nobody), np.int64)]),
        )


def _counted(
    present: npt.NDArray[np.uint64], table: Addresses, low: Addresses, high: Addresses
) -> Addresses:
    """(n,) the number of entries in [low, high) of the PTE pages `table`."""
    counts = np.zeros(len(table), np.int64)
    for word in range(present.shape[1]):
        begin = np.clip(low - word * _WORD, 0, _WORD).astype(np.uint64)
        end = np.clip(high - word * _WORD, 0, _WORD).astype(np.uint64)
        some = end > begin
        width = end[some] - begin[some]
        mask = (_ALL >> (np.uint64(_WORD) - width)) << begin[some]
        counts[some] += np.bitwise_count(present[table[some], word] & mask)
    return counts


def pte_parts(
    slots: Addresses,
    present: npt.NDArray[np.uint64],
    refs: Addresses,
    ground: Ground,
    geometry: Geometry,
) -> tuple[Parts, Addresses]:
    """The parts of PTE pages, and the number of entries of each part.

    Args:
        slots: (n,) the first address of the slot of each PTE page.
        present: (n, words) bitmaps of entries that are not none.
        refs: (n,) the number of these entries.
        ground: the address space.
        geometry: the shape of the page tables.
    """
    shift = geometry.page_shift
    table, owner, low, high = ground.under(slots, geometry.slot)
    first = slots[table]
    entries = _counted(present, table, low - first >> shift, high - first >> shift)
    outside = refs - np.bincount(table, weights=entries, minlength=len(refs)).astype(np.int64)
    (lost,) = np.nonzero(outside > 0)
    with_entries = _sorted(
        np.concatenate([table, lost]),
        np.concatenate([owner, np.full(len(lost), ground.unmapped)]),
        np.concatenate([entries, outside[lost]]),
    )
    empty = ground.by_addresses(refs == 0, slots, geometry.slot)
    parts = with_entries.joined(empty)
    return parts, np.where(refs[parts.table] > 0, parts.weight, 0)


def upper_parts(
    bases: Addresses, span: int, below: tuple[Addresses, Addresses, Addresses], ground: Ground
) -> Parts:
    """The parts of PMD or PUD pages.

    Args:
        bases: the first address that each page maps, ascending.
        span: the number of bytes that each page maps.
        below: the tables that the pages point to: addresses, owners, and bytes charged.
        ground: the address space.
    """
    addresses, owner, charged = below
    table = np.searchsorted(bases, addresses, side="right") - 1
    inside = table >= 0
    inside[inside] = addresses[inside] < bases[table[inside]] + span
    held = _sorted(table[inside], owner[inside], charged[inside])
    idle = np.ones(len(bases), np.bool_)
    idle[held.table] = False
    alone = ground.by_addresses(idle, bases, span)
    return held.joined(alone)
