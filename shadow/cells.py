# SPDX-License-Identifier: GPL-2.0-only
"""The PTE pages of one process at one moment, as numbers: the cells of a map of its slots.

Unlike `shadow.page_columns`, which has text for data frames, these columns are small and quick
to take, so a timeline keeps those of many moments.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shadow.engine import Engine
from shadow.mapped_tables import owners_of_slots, shadow_owners
from shadow.mapping_names import mapping_kind_text
from shadow.page_columns import PtePages
from shadow.policy import POLICIES, Policy

__all__ = ("ENTRY_BITS", "LAZYFREE", "Causes", "Cells", "cells_of", "cells_of_pages")

ENTRY_BITS = 10
"""Bits of a state that hold the number of entries, 0 to 512."""
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
    """

    slots: _Column
    states: npt.NDArray[np.uint16]
    owner: _Column
    owners: list[str]
    made: Causes | None = None
    emptied: Causes | None = None


def cells_of(engine: Engine) -> Cells:
    """The current cells of a shadow."""
    records = engine.table.state.records
    records = records[(records["live"] != 0) & (records["huge"] == 0) & (records["slot"] >= 0)]
    records = records[np.argsort(records["slot"])]
    owners = shadow_owners(engine.table, engine.names)
    lazy = (records["refs"] > 0) & (records["refs"] == records["lazies"])
    return Cells(
        slots=records["slot"].copy(),
        states=_states(records["refs"], records["live"], lazy),
        owner=owners_of_slots(engine.table, owners, records["slot"]),
        owners=[owner.name or mapping_kind_text(owner.kind) for owner in owners.owners],
        made=_causes(records, "made", None),
        emptied=_causes(records, "emptied", "emptied_pages"),
    )


def _states(refs: Any, live: Any, lazy: Any) -> npt.NDArray[np.uint16]:
    states: npt.NDArray[np.uint16] = (
        refs.astype(np.uint16)
        | live.astype(np.uint16) << np.uint16(ENTRY_BITS)
        | np.where(lazy, np.uint16(LAZYFREE), np.uint16(0))
    )
    return states


def _causes(records: npt.NDArray[Any], what: str, pages: str | None) -> Causes:
    return Causes(
        call=records[f"{what}_call"].copy(),
        pages=records[pages].copy() if pages else np.zeros(len(records), np.uint32),
        tid=records[f"{what}_by"].copy(),
        time=records[what].copy(),
    )


def cells_of_pages(pages: PtePages, running: Policy) -> Cells:
    """The cells of a census, which knows neither other policies nor origins."""
    mapped = pages.mapped or []
    owners = sorted(set(mapped))
    place = {name: number for number, name in enumerate(owners)}
    live = np.full(len(pages.slots), 1 << running)
    return Cells(
        slots=pages.slots,
        states=_states(pages.entries, live, np.zeros(len(pages.slots), np.bool_)),
        owner=np.array([place[name] for name in mapped] or [-1] * len(live), np.int64),
        owners=owners,
    )
