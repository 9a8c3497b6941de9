# SPDX-License-Identifier: GPL-2.0-only
"""The shadow page table of one address space.

It has the levels of the hardware: a PGD, PUD pages and PMD pages of 512 entries each. Below
each PMD entry is the record of a PTE page, with a 512-bit map of the entries that are not
none. One pass over the events computes all three policies (`shadow.policy`).
"""

from shadow.table.page_set import Pages, Ranges, overlapping
from shadow.table.precompile import prepare
from shadow.table.state import (
    ALL_FLAGS,
    HUGE_ANON,
    HUGE_FILE,
    KNOWN_FILE,
    NO_ANON,
    UFFD_FLAGS,
    VMA,
    Counter,
    HugePages,
    LabelPart,
    VmaFlag,
)
from shadow.table.table import Table

__all__ = (
    "ALL_FLAGS",
    "HUGE_ANON",
    "HUGE_FILE",
    "KNOWN_FILE",
    "UFFD_FLAGS",
    "NO_ANON",
    "VMA",
    "Counter",
    "HugePages",
    "LabelPart",
    "Pages",
    "Ranges",
    "Table",
    "VmaFlag",
    "overlapping",
    "prepare",
)
