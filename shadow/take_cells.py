# SPDX-License-Identifier: GPL-2.0-only
"""Takes the cells of a shadow page table."""

from typing import Any

import numpy as np
import numpy.typing as npt

from shadow.cells import Causes, Cells, states_of
from shadow.engine import Engine
from shadow.mapped_tables import owners_of_slots, shadow_owners
from shadow.mapping_names import mapping_kind_text

__all__ = ("cells_of",)


def cells_of(engine: Engine) -> Cells:
    """The current cells of a shadow."""
    records = engine.table.state.records
    records = records[(records["live"] != 0) & (records["huge"] == 0) & (records["slot"] >= 0)]
    records = records[np.argsort(records["slot"])]
    owners = shadow_owners(engine.table, engine.names)
    lazy = (records["refs"] > 0) & (records["refs"] == records["lazies"])
    return Cells(
        slots=records["slot"].copy(),
        states=states_of(records["refs"], records["live"], lazy),
        owner=owners_of_slots(engine.table, owners, records["slot"]),
        owners=[owner.name or mapping_kind_text(owner.kind) for owner in owners.owners],
        made=_causes(records, "made", None),
        emptied=_causes(records, "emptied", "emptied_pages"),
        threads=engine.facts.threads,
    )


def _causes(records: npt.NDArray[Any], what: str, pages: str | None) -> Causes:
    return Causes(
        call=records[f"{what}_call"].copy(),
        pages=records[pages].copy() if pages else np.zeros(len(records), np.uint32),
        tid=records[f"{what}_by"].copy(),
        time=records[what].copy(),
    )
