# SPDX-License-Identifier: GPL-2.0-only
"""The PTE pages of a process as columns, for `Snapshot.to_arrow`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from shadow.page_origins import PageOrigins, origins_of
from shadow.policy import POLICIES, Policy

if TYPE_CHECKING:
    import pyarrow as pa

    from shadow.table.table import Table

__all__ = ("PtePages", "pte_pages_of")


@dataclass(frozen=True)
class PtePages:
    """One row for each PTE page with a known address.

    Attributes:
        slots: (n,) int64, ascending: the first address of the slot.
        entries: (n,) uint16: the number of entries that are not none.
        lazyfree: (n,) uint16: the number of entries under MADV_FREE; None: unknown,
            because page tables do not show it.
        policies: for each policy (n,) bool: whether this PTE page exists under the policy;
            empty for a census, which has no history.
        mapped: (n,) the first mapping in the slot, and the number of further ones; None:
            unknown.
        origins: who made each PTE page, and what emptied it; None: page tables do not show
            it.
    """

    slots: npt.NDArray[np.int64]
    entries: npt.NDArray[np.uint16]
    lazyfree: npt.NDArray[np.uint16] | None = None
    policies: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    mapped: list[str] | None = None
    origins: PageOrigins | None = None

    def to_arrow(self) -> "pa.Table":
        """The columns slot, entries, empty, lazyfree, mapped, and under_POLICY for each policy.

        If origins are known, also made_call, made_by, made_ns, and emptied_call, emptied_bytes,
        emptied_by, emptied_ns; the latter four are null if the PTE page has entries.
        """
        import pyarrow as pa  # imported here, because it takes 25 MiB and daemons do not need it

        count = len(self.slots)
        columns = {
            "slot": pa.array(self.slots, pa.uint64()),
            "entries": pa.array(self.entries, pa.uint16()),
            "empty": pa.array(self.entries == 0, pa.bool_()),
            "lazyfree": pa.nulls(count, pa.uint16())
            if self.lazyfree is None
            else pa.array(self.lazyfree, pa.uint16()),
            "mapped": pa.nulls(count, pa.string())
            if self.mapped is None
            else pa.array(self.mapped, pa.string()),
        }
        for policy, exists in self.policies.items():
            columns[f"under_{policy}"] = pa.array(exists, pa.bool_())
        if self.origins is not None:
            columns |= {name: pa.array(values) for name, values in vars(self.origins).items()}
        return pa.table(columns)


def pte_pages_of(
    table: "Table", policy: Policy | None = None, threads: Mapping[int, str] | None = None
) -> PtePages:
    """The current PTE pages of a shadow page table.

    Args:
        table: the shadow page table.
        policy: the PTE pages under this policy; None: under that of the running kernel.
        threads: names of threads by tid.
    """
    shown = table.running if policy is None else policy
    records = table.state.records
    records = records[(records["live"] >> shown) & 1 != 0]
    records = records[np.argsort(records["slot"])]
    return PtePages(
        slots=records["slot"],
        entries=records["refs"].astype(np.uint16),
        lazyfree=records["lazies"].astype(np.uint16),
        policies={each.label: (records["live"] >> each) & 1 != 0 for each in POLICIES},
        origins=origins_of(records, threads or {}),
    )
