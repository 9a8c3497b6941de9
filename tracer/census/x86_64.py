# SPDX-License-Identifier: GPL-2.0-only
"""Entries of page tables on x86-64 (arch/x86/include/asm/pgtable_types.h, pgtable_64.h).

Bit 0 is PRESENT. Bit 7 of an upper entry is PSE (a leaf). Bit 8 of an entry that is not present is
PROTNONE, which maps a page that may not be touched. Any other non-zero word is a swap entry with
its type in bits 59 to 63, and its offset inverted from bit 9 on.
"""

import numpy as np
import numpy.typing as npt

__all__ = ("X86Entries",)

_Words = npt.NDArray[np.uint64]
_PRESENT = np.uint64(1)
_PSE = np.uint64(1 << 7)
_MAPS_A_PAGE = np.uint64(1 | 1 << 8)
_FRAME = np.uint64(0x000F_FFFF_FFFF_F000)
_TYPE_SHIFT = np.uint64(59)
_OFFSET_SHIFT = np.uint64(9)


class X86Entries:
    """See `tracer.census.entries.EntryFormat`."""

    hardware_bits = np.uint64(1 << 5 | 1 << 6)  # ACCESSED and DIRTY

    def __init__(self, page: int) -> None:
        """All pages have 4 KiB."""

    def learn(self, inaccessible: int) -> None:
        """Nothing: all kernels encode entries alike."""

    def maps_a_page(self, words: _Words) -> npt.NDArray[np.bool_]:
        """Which entries of PTE pages map a page, even one that may not be touched."""
        mapped: npt.NDArray[np.bool_] = words & _MAPS_A_PAGE != 0
        return mapped

    def frames(self, words: _Words) -> _Words:
        """The physical addresses in entries that map a page or point to a table."""
        return words & _FRAME

    def is_table(self, words: _Words) -> npt.NDArray[np.bool_]:
        """Which upper entries point to a table."""
        table: npt.NDArray[np.bool_] = np.equal(words & (_PRESENT | _PSE), _PRESENT)
        return table

    def swap_types(self, words: _Words) -> _Words:
        """The types of swap entries."""
        return words >> _TYPE_SHIFT

    def swap_offsets(self, words: _Words) -> _Words:
        """The offsets of swap entries."""
        return ~words >> _OFFSET_SHIFT
