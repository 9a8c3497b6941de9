# SPDX-License-Identifier: GPL-2.0-only
"""The counted reader, for hosts where BPF may not read kernel memory.

pagemap shows which entries are not none, and VmPTE shows the number of page-table pages. The
difference is the number of empty PTE pages; their addresses stay unknown.
"""

import time
from collections.abc import Callable, Collection

import numpy as np
import numpy.typing as npt

from shadow.geometry import Geometry
from shadow.mappings import Tables
from shadow.table.page_set import Pages, Ranges
from shadow.table.state import HUGE_ANON, HUGE_FILE
from shadow.table.table import Table
from tracer.census.result import Census
from tracer.process.pagemap import read_runs
from tracer.process.target import Target
from tracer.procfs import vm_pte_kib

__all__ = ("CountedReader",)


class CountedReader:
    """Reads pagemap and VmPTE.

    Args:
        geometry: the page tables of the running kernel.
        why: why the exact reader cannot be used.
    """

    exact = False

    def __init__(self, geometry: Geometry, why: str) -> None:
        self.why = why
        self._geometry = geometry

    def vmas(self, target: Target) -> npt.NDArray[np.void]:
        """The VMAs in /proc/PID/maps; see `Reader`."""
        return target.vmas()

    @property
    def direct_map(self) -> None:
        """It is unknown: see `Reader.direct_map`."""

    def space(self, _: Target) -> int:
        """Return 0: the address is unknown."""
        return 0

    def pages(
        self,
        target: Target,
        vmas: npt.NDArray[np.void],
        *,
        within: Ranges | None = None,
        between: Callable[[], object] = lambda: None,
    ) -> Pages:
        """The PTE pages that have entries, in all ranges; see `Reader`."""
        runs = read_runs(target.pid, vmas, self._geometry.user_bytes, between)
        pages = Table.of_runs(runs.start, runs.end, runs.huge, self._geometry).pages(exact=False)
        return pages.restricted(within) if within else pages

    def census(self, target: Target) -> Census:
        """Count everything; see `Reader`."""
        geometry = self._geometry
        census = Census(geometry, exact=False)
        begin = time.monotonic_ns()
        pages = self.pages(target, target.vmas())
        census.vm_pte_kib = vm_pte_kib(target.pid)
        census.took_ns = time.monotonic_ns() - begin
        populated = np.concatenate([pages.slots, pages.huge])
        pmds = np.unique(populated & -geometry.pmd_span)
        puds = np.unique(populated & -geometry.pud_span)[: None if geometry.has_puds else 0]
        census.pmd_pages, census.pud_pages = len(pmds), len(puds)
        census.huge_anon = int(np.count_nonzero(pages.huge_kind == HUGE_ANON))
        census.huge_file = int(np.count_nonzero(pages.huge_kind == HUGE_FILE))
        refs = pages.entries()
        census.slots, census.refs = pages.slots, refs.astype(np.uint16)
        census.occupancy = np.bincount(refs, minlength=geometry.entries + 1)
        census.entries.present = int(refs.sum())
        census.occupancy[0] = max(census.vm_pte_kib - census.sum_kib, 0) // geometry.page_kib
        census.tables = Tables(
            geometry=geometry,
            slots=pages.slots,
            present=pages.present,
            leaves=pages.huge,
            deposited=pages.huge_kind == HUGE_ANON,
            pmd_bases=pmds,
            pud_bases=puds,
            unplaced=int(census.occupancy[0]),
        )
        return census

    def page_table_kib(self, targets: Collection[Target]) -> dict[int, int]:  # noqa: ARG002
        """Return nothing: only /proc has VmPTE, one process at a time."""
        return {}

    def forget(self, target: Target) -> None:
        """Do nothing: this reader caches nothing."""

    def close(self) -> None:
        """Do nothing: this reader keeps nothing open."""
