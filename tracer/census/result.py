# SPDX-License-Identifier: GPL-2.0-only
"""What a census found: page tables in numbers, to be held against VmPTE."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shadow.geometry import ENTRIES
from shadow.mappings import Tables
from tracer.census.decode import Entries

__all__ = ("KIB_PER_PAGE", "Census")

KIB_PER_PAGE = 4


def _no_pages() -> npt.NDArray[np.int64]:
    return np.zeros(ENTRIES + 1, np.int64)


@dataclass
class Census:
    """The page tables of one process at one moment.

    Attributes:
        exact: False where only what has entries could be seen: then the empty
            PTE pages are VmPTE less everything else, and their places unknown.
        huge_anon: leaf PMDs of anonymous memory, each with a deposited PTE page.
        huge_file: other leaf PMDs, hugetlb not among them.
        huge_puds: leaf PUDs.
        entries: entries of PTE pages by type.
        occupancy: (513,) PTE pages with 0, 1 ... 512 entries.
        empty_slots: (n,) int64, ascending: first addresses; None unless exact.
        slots: (m,) int64, ascending: first addresses of all PTE pages that have one.
        refs: (m,) uint16: their entries.
        tables: all tables whose places are known, to be charged to mappings.
        vm_pte_kib: the kernel's own figure.
        unstable: tables that changed as often as they were read.
        tries: readings until the sum was VmPTE, or the last that was made.
        took_ns: the last reading.
    """

    exact: bool
    pud_pages: int = 0
    pmd_pages: int = 0
    huge_anon: int = 0
    huge_file: int = 0
    huge_puds: int = 0
    entries: Entries = field(default_factory=Entries)
    occupancy: npt.NDArray[np.int64] = field(default_factory=_no_pages)
    empty_slots: npt.NDArray[np.int64] | None = None
    slots: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    refs: npt.NDArray[np.uint16] = field(default_factory=lambda: np.empty(0, np.uint16))
    tables: Tables | None = None
    vm_pte_kib: int = 0
    unstable: int = 0
    tries: int = 1
    took_ns: int = 0

    @property
    def pte_pages(self) -> int:
        """PTE pages in the tree."""
        return int(self.occupancy.sum())

    @property
    def sum_kib(self) -> int:
        """What VmPTE should be: upper levels, PTE pages and deposits, KiB.

        Linux kernel: mm_inc_nr_puds, mm_inc_nr_pmds and mm_inc_nr_ptes, the
        last for deposits too (mm/huge_memory.c).
        """
        pages = self.pud_pages + self.pmd_pages + self.pte_pages + self.huge_anon
        return KIB_PER_PAGE * pages
