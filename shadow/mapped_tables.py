# SPDX-License-Identifier: GPL-2.0-only
"""Assigns the page tables of a shadow to the mappings that own them (`shadow.mappings`)."""

import numpy as np
import numpy.typing as npt

from shadow.events import NAME_BITS
from shadow.geometry import SLOT
from shadow.mapping_names import NO_NAMES, MappingNames
from shadow.mapping_owners import Owner, owners_of
from shadow.mappings import MappingUse, Tables, mapping_uses
from shadow.policy import Policy
from shadow.snapshot import SPARSE_BELOW
from shadow.table import HUGE_ANON, Counter, LabelPart, Table
from shadow.table.contents import huge_pages, pte_pages
from shadow.table.radix import PMD_LEVEL, PUD_LEVEL

__all__ = ("owners_of_slots", "shadow_uses", "unnamed")


def _vmas(table: Table) -> npt.NDArray[np.void]:
    return table.state.vmas[: table.counter(Counter.VMAS)]


def _tables(table: Table, policy: Policy, unplaced: int) -> Tables:
    pages = pte_pages(table.state, policy)
    pages = pages[np.argsort(pages["slot"])]
    huge = huge_pages(table.state)
    return Tables(
        slots=pages["slot"],
        present=np.ascontiguousarray(pages["present"]),
        leaves=huge["slot"],
        deposited=huge["huge"] == HUGE_ANON,
        pmd_bases=table.upper_bases(PMD_LEVEL),
        pud_bases=table.upper_bases(PUD_LEVEL),
        unplaced=unplaced,
    )


def shadow_uses(
    table: Table, names: MappingNames | None, policy: Policy, unplaced: int
) -> list[MappingUse] | None:
    """The page tables of a shadow by the mappings that own them.

    Args:
        table: the shadow page table.
        names: the names of its mappings; None: not read, so that only kinds are known.
        policy: the policy whose PTE pages are assigned.
        unplaced: the number of PTE pages with unknown addresses.

    Returns:
        The rows; None if the mappings are unknown.
    """
    if not table.counter(Counter.VMAS_KNOWN):
        return None
    return mapping_uses(
        _vmas(table),
        names or NO_NAMES,
        _tables(table, policy, unplaced),
        brk=table.counter(Counter.BRK),
        sparse_below=SPARSE_BELOW,
    )


def owners_of_slots(
    table: Table, names: MappingNames | None, slots: npt.NDArray[np.int64]
) -> tuple[list[Owner], npt.NDArray[np.int64]]:
    """The owner of the first mapping in each slot.

    Args:
        table: the shadow page table.
        names: see `shadow_uses`.
        slots: (n,) the first address of each slot.

    Returns:
        The owners, and (n,) the index of the owner of each slot; -1: no known mapping.
    """
    vmas = _vmas(table)
    if not len(vmas):
        return [], np.full(len(slots), -1)
    owners = owners_of(vmas, names or NO_NAMES, table.counter(Counter.BRK))
    first = np.searchsorted(vmas["end"], slots, side="right")
    at = np.minimum(first, len(vmas) - 1)
    inside = (first < len(vmas)) & (vmas["start"][at] < slots + SLOT)
    found = np.where(inside, owners.of[at], -1)
    return owners.owners, found


def unnamed(table: Table, names: MappingNames | None) -> frozenset[int]:
    """Files and labels of mappings without a name; labels are negative numbers."""
    known, vmas = names or NO_NAMES, _vmas(table)
    labels = vmas["flags"][vmas["file"] == 0] >> LabelPart.NAME & ((1 << NAME_BITS) - 1)
    files = set(np.unique(vmas["file"]).tolist()) - {0} - known.files.keys()
    return frozenset(files | {-each for each in set(labels.tolist()) - {0} - known.labels.keys()})
