# SPDX-License-Identifier: GPL-2.0-only
"""A census as a snapshot: the page tables of one process as they are now."""

import time
from dataclasses import asdict

from shadow.mapping_owners import owners_of
from shadow.mappings import mapping_uses
from shadow.page_columns import PtePages
from shadow.snapshot import Audit, Now, Reading, Snapshot, Window
from tracer.census import Reader
from tracer.kernel import KernelFacts
from tracer.process.target import Target

__all__ = ("take_census",)


def take_census(
    reader: Reader,
    target: Target,
    kernel: KernelFacts,
    *,
    slots: bool = False,
    pages: bool = False,
) -> Snapshot:
    """Read the page tables of one process.

    Args:
        reader: reads the page tables.
        target: the process.
        kernel: the running kernel.
        slots: whether to list the empty slots.
        pages: whether to list the PTE pages (`Snapshot.pages`).

    Raises:
        NoSuchTargetError: the process has ended.
        OSError: the process ended during the reading.
    """
    census = reader.census(target)
    now, geometry = time.monotonic_ns(), kernel.geometry
    empty = int(census.occupancy[0])
    listed = census.empty_slots.tolist() if slots and census.empty_slots is not None else None
    space = target.mapped()
    owners = owners_of(space.vmas, space.names, space.brk)
    mapped = target.mapped_at(census.slots.tolist(), geometry.slot) if pages else None
    how = reader.why if census.exact else f"counted from pagemap and VmPTE because: {reader.why}"
    return Snapshot(
        process=target.describe(),
        kernel=kernel.stated("census"),
        window=Window(now, now, {}, 0),
        now=Now(
            pte_pages=census.pte_pages,
            empty=empty,
            unplaced=0 if census.exact else empty,
            lazyfree_only=None,
            sparse=int(census.occupancy[1 : geometry.sparse_below].sum()),
            refs=sum(refs * int(pages) for refs, pages in enumerate(census.occupancy)),
            pmd_pages=census.pmd_pages,
            pud_pages=census.pud_pages,
            thp_deposits=census.huge_anon,
            vm_pte_kib=census.vm_pte_kib,
            vm_pte_predicted_kib=census.sum_kib,
            occupancy=census.occupancy.tolist(),
        ),
        policies={},
        audit=Audit(),
        empty_slots=listed,
        empty_slot_vmas=None if listed is None else target.mapped_at(listed, geometry.slot),
        reading=Reading(
            exact=census.exact,
            how=how,
            entries=asdict(census.entries),
            huge={
                "anonymous": census.huge_anon,
                "file": census.huge_file,
                geometry.pmd_text: census.huge_puds,
            },
            tries=census.tries,
            took_ns=census.took_ns,
            unstable=census.unstable,
        ),
        mappings=mapping_uses(space.vmas, owners, census.tables) if census.tables else None,
        pages=PtePages(census.slots, census.refs, mapped=mapped) if pages else None,
    )
