# SPDX-License-Identifier: GPL-2.0-only
"""The PTE pages of one process at one moment, as numbers: the cells of a map of its slots.

Unlike `shadow.page_columns`, which has text for data frames, these columns are small and quick
to take, so a timeline keeps those of many moments.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from shadow.page_columns import PtePages
from shadow.policy import POLICIES, Policy

__all__ = ("ENTRY_BITS", "LAZYFREE", "Causes", "Cells", "cells_of_pages", "states_of")

ENTRY_BITS = 14
"""Bits of a state that hold the number of entries, 0 to 8,192."""
LAZYFREE = 1 << ENTRY_BITS + len(POLICIES)
"""The bit of a state that says that all entries are lazyfree."""
_Column = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Causes:
    """What made or emptied n PTE pages, as (n,) columns.

    Attributes:
        call: the code of the event (`shadow.table.origin`).
        pages: the size of the call; 0: it has none.
        tid: the thread; 0: unknown.
        time: when, CLOCK_MONOTONIC; 0: before the window.
    """

    call: npt.NDArray[np.uint8]
    pages: npt.NDArray[np.uint32]
    tid: npt.NDArray[np.int32]
    time: _Column


@dataclass(frozen=True, eq=False)
class Cells:
    """The PTE pages that exist under any policy.

    Attributes:
        slots: (n,) ascending: the first address of each slot.
        states: (n,) the number of entries, then a bit for each policy that has the PTE page, in
            the order of `POLICIES`, then `LAZYFREE`.
        owner: (n,) the index of the first mapping in the slot in `owners`; -1: unknown.
        owners: the names of mappings.
        made: who made each PTE page; None: page tables do not show it.
        emptied: what removed the last entry; it counts only where a PTE page is empty.
        threads: the names of threads by tid.
    """

    slots: _Column
    states: npt.NDArray[np.uint32]
    owner: _Column
    owners: list[str]
    made: Causes | None = None
    emptied: Causes | None = None
    threads: Mapping[int, str] = field(default_factory=dict)

    def entries_by_slot(self, policy: Policy) -> dict[int, int]:
        """Entries of each PTE page that the policy has, by the first address of its slot."""
        there = self.states >> np.uint32(ENTRY_BITS + policy) & np.uint32(1) != 0
        entries = self.states[there] & np.uint32((1 << ENTRY_BITS) - 1)
        return dict(zip(self.slots[there].tolist(), entries.tolist(), strict=True))


def states_of(refs: Any, live: Any, lazy: Any) -> npt.NDArray[np.uint32]:
    """(n,) the states of cells, from entries, policies and whether all are lazyfree."""
    states: npt.NDArray[np.uint32] = (
        refs.astype(np.uint32)
        | live.astype(np.uint32) << np.uint32(ENTRY_BITS)
        | np.where(lazy, np.uint32(LAZYFREE), np.uint32(0))
    )
    return states


def cells_of_pages(pages: PtePages, running: Policy) -> Cells:
    """The cells of a census, which knows neither other policies nor origins."""
    mapped = pages.mapped or []
    owners = sorted(set(mapped))
    place = {name: number for number, name in enumerate(owners)}
    live = np.full(len(pages.slots), 1 << running)
    return Cells(
        slots=pages.slots,
        states=states_of(pages.entries, live, np.zeros(len(pages.slots), np.bool_)),
        owner=np.array([place[name] for name in mapped] or [-1] * len(live), np.int64),
        owners=owners,
    )
