# SPDX-License-Identifier: GPL-2.0-only
"""The page tables of a shadow, for those who ask whose they are (`shadow.mappings`)."""

import numpy as np
import numpy.typing as npt

from shadow.events import NAME_BITS
from shadow.mapping_names import NO_NAMES, MappingNames
from shadow.mappings import MappingUse, Tables, mapping_uses
from shadow.policy import Policy
from shadow.snapshot import SPARSE_BELOW
from shadow.table import HUGE_ANON, Counter, LabelPart, Table
from shadow.table.contents import huge_pages, pte_pages
from shadow.table.radix import PMD_LEVEL, PUD_LEVEL

__all__ = ("shadow_uses", "unnamed")


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
        names: what was read of its mappings; None: nothing was, so only kinds are known.
        policy: whose PTE pages.
        unplaced: PTE pages whose addresses are not known.

    Returns:
        None where the mappings themselves are not known.
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


def unnamed(table: Table, names: MappingNames | None) -> frozenset[int]:
    """Files and labels of its mappings that have no name yet, labels as negative numbers."""
    known, vmas = names or NO_NAMES, _vmas(table)
    labels = vmas["flags"][vmas["file"] == 0] >> LabelPart.NAME & ((1 << NAME_BITS) - 1)
    files = set(np.unique(vmas["file"]).tolist()) - {0} - known.files.keys()
    return frozenset(files | {-each for each in set(labels.tolist()) - {0} - known.labels.keys()})
