# SPDX-License-Identifier: GPL-2.0-only
"""Charges page tables to the mappings that own them.

All bytes of every table are charged, so the sum over all mappings equals the size of all
tables:

- A PTE page is charged to the mappings with entries in it, in proportion to their entries. An
  empty PTE page is charged to the mappings in its slot, in proportion to their size there.
- A PTE page deposited under an anonymous huge page is charged to the mapping of that page.
- A PMD page is charged to the owners of its PTE pages and huge pages, in proportion to the bytes
  charged for these. A PUD page is charged in the same way by its PMD pages. An empty PMD or PUD
  page is charged to the mappings below it, in proportion to their size there.

Tables for unmapped addresses have their own row, and so have PTE pages with unknown addresses.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from shadow.geometry import Geometry
from shadow.mapping_names import MappingKind
from shadow.mapping_owners import Owner, Owners
from shadow.mapping_parts import Addresses, Ground, pte_parts, upper_parts

__all__ = ("MappingUse", "Tables", "combined", "mapping_uses", "ranked", "summed_up")


@dataclass(frozen=True)
class MappingUse:
    """The page tables of all mappings with one kind and name.

    Mappings can share a table, and are then charged whole bytes of it, so counts of tables are
    fractions. `kind` is a `MappingKind`; `name` is None if the mapping has no name
    or the name is unknown. `mappings` counts VMAs, `mapped_kib` is their size. `bytes` is the
    total charge: PTE pages, the PMD and PUD pages above them, and PTE pages deposited under
    huge pages. `share` is the fraction of all tables, 0 to 1. `device`, `inode` and `ranges`
    (start and end offsets, bytes) identify the mapped parts of a file.
    """

    kind: str
    name: str | None
    mappings: int
    mapped_kib: int
    pte_pages: float
    empty: float
    sparse: float
    entries: int
    pmd_pages: float
    pud_pages: float
    thp_deposits: float
    bytes: int
    share: float
    device: str = ""
    inode: int = 0
    ranges: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True)
class Tables:
    """The page tables of one process.

    Attributes:
        geometry: their shape.
        slots: (n,) the first address of each slot with a PTE page.
        present: (n, words) uint64: bitmaps of entries that are not none.
        leaves: (m,) the first address of each leaf PMD.
        deposited: (m,) whether each leaf PMD has a deposited PTE page.
        pmd_bases: (k,) ascending: the first address that each PMD page maps.
        pud_bases: (l,) the same for PUD pages.
        unplaced: the number of PTE pages with unknown addresses; all of them are empty.
    """

    geometry: Geometry
    slots: Addresses
    present: npt.NDArray[np.uint64]
    leaves: Addresses
    deposited: npt.NDArray[np.bool_]
    pmd_bases: Addresses
    pud_bases: Addresses
    unplaced: int = 0


def _merged_ranges(vmas: npt.NDArray[np.void], page_shift: int) -> list[list[int]]:
    """The file offsets that these VMAs map, as disjoint ranges."""
    first = vmas["pgoff"] << page_shift
    ranges: list[list[int]] = []
    for start, end in sorted(
        zip(first.tolist(), (first + vmas["end"] - vmas["start"]).tolist(), strict=True)
    ):
        if ranges and start <= ranges[-1][1]:
            ranges[-1][1] = max(ranges[-1][1], end)
        else:
            ranges.append([start, end])
    return ranges


def mapping_uses(
    vmas: npt.NDArray[np.void],
    owners: Owners,
    tables: Tables,
) -> list[MappingUse]:
    """The page tables of a process by owning mapping, largest first.

    The sum of `bytes` is the size of a page times the number of tables, including unplaced and
    deposited PTE pages.

    Args:
        vmas: (n,) of `shadow.table.VMA`, sorted.
        owners: the owners of the VMAs.
        tables: the page tables.
    """
    geometry, ground = tables.geometry, Ground(vmas, owners)
    page = geometry.page
    count = len(owners.owners) + 1

    def summed(owner: Addresses, values: Addresses) -> Addresses:
        return np.bincount(owner, weights=values, minlength=count).astype(np.int64)

    refs = np.bitwise_count(tables.present).sum(axis=1, dtype=np.int64)
    ptes, entries = pte_parts(tables.slots, tables.present, refs, ground, geometry)
    pte_bytes, part_refs = ptes.charged(page), refs[ptes.table]
    leaf_owner = ground.owner_at(tables.leaves)
    leaf_bytes = np.full(len(tables.leaves), page, np.int64)
    pmds = upper_parts(
        tables.pmd_bases,
        geometry.pmd_span,
        (
            np.concatenate([tables.slots[ptes.table], tables.leaves]),
            np.concatenate([ptes.owner, leaf_owner]),
            np.concatenate([pte_bytes, leaf_bytes]),
        ),
        ground,
    )
    pmd_bytes = pmds.charged(page)
    puds = upper_parts(
        tables.pud_bases,
        geometry.pud_span,
        (tables.pmd_bases[pmds.table], pmds.owner, pmd_bytes),
        ground,
    )
    columns = {
        "pte_pages": summed(ptes.owner, pte_bytes),
        "empty": summed(ptes.owner, np.where(part_refs == 0, pte_bytes, 0)),
        "sparse": summed(
            ptes.owner,
            np.where((part_refs > 0) & (part_refs < geometry.sparse_below), pte_bytes, 0),
        ),
        "pmd_pages": summed(pmds.owner, pmd_bytes),
        "pud_pages": summed(puds.owner, puds.charged(page)),
        "thp_deposits": summed(leaf_owner, np.where(tables.deposited, page, 0)),
    }
    return _rows(vmas, owners, columns, summed(ptes.owner, entries), tables)


def _rows(
    vmas: npt.NDArray[np.void],
    owners: Owners,
    columns: dict[str, Addresses],
    entries: Addresses,
    tables: Tables,
) -> list[MappingUse]:
    """A row for each owner with a charge, from the bytes of each kind of table."""
    total = sum(
        (columns[name] for name in ("pte_pages", "pmd_pages", "pud_pages", "thp_deposits")),
        np.zeros(len(entries), np.int64),
    )
    geometry, unplaced = tables.geometry, tables.unplaced
    everything = int(total.sum()) + unplaced * geometry.page
    every = [*owners.owners, Owner(MappingKind.UNMAPPED)]
    mapped = (vmas["end"] - vmas["start"]) >> 10
    vmas_of, kib_of = (
        np.bincount(owners.of, weights=weights, minlength=len(every)).astype(np.int64)
        for weights in (None, mapped)
    )
    rows = []
    for number in np.flatnonzero(total).tolist():
        owner = every[number]
        pages = {name: int(column[number]) / geometry.page for name, column in columns.items()}
        rows.append(
            MappingUse(
                kind=owner.kind.value,
                name=owner.name,
                mappings=int(vmas_of[number]),
                mapped_kib=int(kib_of[number]),
                pte_pages=pages["pte_pages"],
                empty=pages["empty"],
                sparse=pages["sparse"],
                entries=int(entries[number]),
                pmd_pages=pages["pmd_pages"],
                pud_pages=pages["pud_pages"],
                thp_deposits=pages["thp_deposits"],
                bytes=int(total[number]),
                share=_share(int(total[number]), everything),
                device=owner.device,
                inode=owner.inode,
                ranges=_merged_ranges(vmas[owners.of == number], tables.geometry.page_shift)
                if owner.device
                else [],
            )
        )
    if unplaced:
        size, many = unplaced * geometry.page, float(unplaced)
        empty = replace(_NOTHING, kind=MappingKind.UNPLACED.value, pte_pages=many, empty=many)
        rows.append(replace(empty, bytes=size, share=_share(size, everything)))
    return ranked(rows)


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0


_NOTHING = MappingUse("", None, 0, 0, 0.0, 0.0, 0.0, 0, 0.0, 0.0, 0.0, 0, 0.0)
_SUMMED = (
    *("mappings", "mapped_kib", "pte_pages", "empty", "sparse", "entries"),
    *("pmd_pages", "pud_pages", "thp_deposits", "bytes"),
)


def ranked(uses: Iterable[MappingUse]) -> list[MappingUse]:
    """The rows, largest first."""
    return sorted(uses, key=lambda use: (-use.bytes, use.kind, use.name or "", use.inode))


def combined(uses: Iterable[MappingUse], *, names: bool = True) -> list[MappingUse]:
    """Sum rows of several processes by kind and name.

    Args:
        uses: the rows of any processes.
        names: whether to sum by name too; by kind alone, the number of rows is bounded.
    """
    groups: dict[tuple[str, str | None], list[MappingUse]] = {}
    for use in uses:
        groups.setdefault((use.kind, use.name if names else None), []).append(use)
    everything = sum(use.bytes for group in groups.values() for use in group)
    return ranked(
        replace(summed_up(group, everything), kind=kind, name=name)
        for (kind, name), group in groups.items()
    )


def summed_up(uses: list[MappingUse], everything: int) -> MappingUse:
    """The sum of several rows, without a name.

    Args:
        uses: the rows.
        everything: the bytes of all tables, to compute `share`.
    """
    sums = {column: sum(getattr(use, column) for use in uses) for column in _SUMMED}
    return replace(_NOTHING, **sums, share=_share(sums["bytes"], everything))
