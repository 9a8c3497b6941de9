# SPDX-License-Identifier: GPL-2.0-only
"""The result of a census: page-table counts to compare with VmPTE."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shadow.geometry import Geometry
from shadow.mappings import Tables
from tracer.census.entries import Entries

__all__ = ("Census",)


@dataclass
class Census:
    """The page tables of one process at one moment.

    Attributes:
        geometry: the shape of the page tables.
        exact: False if only pages with entries were visible; then the number of empty PTE
            pages is VmPTE less everything else, and their addresses are unknown.
        huge_anon: leaf PMDs of anonymous memory; each has a deposited PTE page.
        huge_file: other leaf PMDs, without hugetlb.
        huge_puds: leaf PUDs.
        entries: entries of PTE pages by type.
        occupancy: (entries + 1,) PTE pages by their number of entries.
        empty_slots: (n,) int64, ascending: first addresses; None unless exact.
        slots: (m,) int64, ascending: first addresses of all PTE pages with a known address.
        refs: (m,) uint16: the number of entries of each of `slots`.
        tables: all tables with known addresses, to charge them to mappings.
        vm_pte_kib: VmPTE as the kernel reports it.
        unstable: tables that changed during every reading.
        tries: readings until the sum equalled VmPTE, or until the reader gave up.
        took_ns: duration of the last reading.
    """

    geometry: Geometry
    exact: bool
    pud_pages: int = 0
    pmd_pages: int = 0
    huge_anon: int = 0
    huge_file: int = 0
    huge_puds: int = 0
    entries: Entries = field(default_factory=Entries)
    occupancy: npt.NDArray[np.int64] = field(init=False)
    empty_slots: npt.NDArray[np.int64] | None = None
    slots: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    refs: npt.NDArray[np.uint16] = field(default_factory=lambda: np.empty(0, np.uint16))
    tables: Tables | None = None
    vm_pte_kib: int = 0
    unstable: int = 0
    tries: int = 1
    took_ns: int = 0

    def __post_init__(self) -> None:
        """Begin with no PTE page."""
        self.occupancy = np.zeros(self.geometry.entries + 1, np.int64)

    @property
    def pte_pages(self) -> int:
        """Number of PTE pages in the tree."""
        return int(self.occupancy.sum())

    @property
    def sum_kib(self) -> int:
        """The expected VmPTE in KiB: upper levels, PTE pages and deposits.

        Linux kernel: mm_inc_nr_puds, mm_inc_nr_pmds and mm_inc_nr_ptes; the
        last also counts deposits (mm/huge_memory.c).
        """
        pages = self.pud_pages + self.pmd_pages + self.pte_pages + self.huge_anon
        return self.geometry.page_kib * pages
