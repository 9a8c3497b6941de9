# SPDX-License-Identifier: GPL-2.0-only
"""Assigns the page tables of a shadow to the mappings that own them (`shadow.mappings`)."""

import numpy as np
import numpy.typing as npt

from shadow.events import NAME_BITS
from shadow.mapping_names import NO_NAMES, MappingNames
from shadow.mapping_owners import Owners, owners_of
from shadow.mappings import MappingUse, Tables, mapping_uses
from shadow.policy import Policy
from shadow.table.counters import Counter
from shadow.table.radix import PMD_LEVEL, PUD_LEVEL
from shadow.table.state import HUGE_ANON
from shadow.table.table import Table
from shadow.table.vma import LabelPart

__all__ = ("owners_of_slots", "shadow_owners", "shadow_uses", "unnamed")


def shadow_owners(table: Table, names: MappingNames | None) -> Owners:
    """The owners of the mappings of a shadow.

    Args:
        table: the shadow page table.
        names: the names of its mappings; None: not read, so that only kinds are known.
    """
    return owners_of(table.vmas(), names or NO_NAMES, table.counter(Counter.BRK))


def _tables(table: Table, policy: Policy, unplaced: int) -> Tables:
    pages = table.pages(policy)
    return Tables(
        geometry=table.geometry,
        slots=pages.slots,
        present=pages.present,
        leaves=pages.huge,
        deposited=pages.huge_kind == HUGE_ANON,
        pmd_bases=table.upper_bases(PMD_LEVEL),
        pud_bases=table.upper_bases(PUD_LEVEL),
        unplaced=unplaced,
    )


def shadow_uses(
    table: Table, owners: Owners, policy: Policy, unplaced: int
) -> list[MappingUse] | None:
    """The page tables of a shadow by the mappings that own them.

    Args:
        table: the shadow page table.
        owners: see `shadow_owners`.
        policy: the policy whose PTE pages are assigned.
        unplaced: the number of PTE pages with unknown addresses.

    Returns:
        The rows; None if the mappings are unknown.
    """
    if not table.counter(Counter.VMAS_KNOWN):
        return None
    tables = _tables(table, policy, unplaced)
    return mapping_uses(table.vmas(), owners, tables)


def owners_of_slots(
    table: Table, owners: Owners, slots: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """(n,) the index of the owner of the first mapping in each slot; -1: no known mapping.

    Args:
        table: the shadow page table.
        owners: see `shadow_owners`.
        slots: (n,) the first address of each slot.
    """
    vmas = table.vmas()
    if not len(vmas):
        return np.full(len(slots), -1)
    first = np.searchsorted(vmas["end"], slots, side="right")
    at = np.minimum(first, len(vmas) - 1)
    inside = (first < len(vmas)) & (vmas["start"][at] < slots + table.geometry.slot)
    return np.where(inside, owners.of[at], -1)


def unnamed(table: Table, names: MappingNames | None) -> frozenset[int]:
    """Files and labels of mappings without a name; labels are negative numbers."""
    known, vmas = names or NO_NAMES, table.vmas()
    labels = vmas["flags"][vmas["file"] == 0] >> LabelPart.NAME & ((1 << NAME_BITS) - 1)
    files = set(np.unique(vmas["file"]).tolist()) - {0} - known.files.keys()
    return frozenset(files | {-each for each in set(labels.tolist()) - {0} - known.labels.keys()})
