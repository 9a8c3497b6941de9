# SPDX-License-Identifier: GPL-2.0-only
"""Entries of page tables on arm64 (arch/arm64/include/asm/pgtable-hwdef.h, pgtable-prot.h).

Bit 0 is VALID. An upper entry with bits 1:0 = 3 points to a table, one with 1 is a block (a leaf).
The contiguous bit groups entries, and each is still one. An entry that is not valid and not zero
maps a page that may not be touched (PROT_NONE), or is a swap entry. Kernels before v6.10 mark
PROT_NONE by bit 58, and store the type of a swap entry in bits 3 to 7 and its offset from bit 8
on. Since then bit 11 marks it, the type is in bits 6 to 10, and the offset begins at bit 12
("arm64/mm: Remove PTE_PROT_NONE bit"). The entry of an inaccessible page shows which of them runs.
"""

import numpy as np
import numpy.typing as npt

__all__ = ("Arm64Entries",)

_Words = npt.NDArray[np.uint64]
_VALID = np.uint64(1)
_TYPE, _TABLE = np.uint64(3), np.uint64(3)
_TYPE_BITS = np.uint64(31)
_OLD_PROT_NONE = 1 << 58
_NEW_PROT_NONE = 1 << 11
_ADDRESS_BITS = 48
_HIGH_BITS, _HIGH_SHIFT = 0xF000, np.uint64(36)
"""With pages of 64 KiB, bits 12 to 15 of an entry are bits 48 to 51 of the address."""
_LARGE_PAGE = 1 << 16


class Arm64Entries:
    """See `tracer.census.entries.EntryFormat`.

    Args:
        page: the size of a page.
    """

    hardware_bits = np.uint64(1 << 7 | 1 << 10)  # writable (AP[2]), accessed (AF)

    def __init__(self, page: int) -> None:
        self._frame = np.uint64((1 << _ADDRESS_BITS) - page)
        self._high = np.uint64(_HIGH_BITS if page == _LARGE_PAGE else 0)
        self._use(_NEW_PROT_NONE, 6, 12)

    def _use(self, prot_none: int, type_shift: int, offset_shift: int) -> None:
        self._maps_a_page = _VALID | np.uint64(prot_none)
        self._type_shift, self._offset_shift = np.uint64(type_shift), np.uint64(offset_shift)

    def learn(self, inaccessible: int) -> None:
        """Learn from the entry of a page that was written and then made inaccessible."""
        if inaccessible & _OLD_PROT_NONE:
            self._use(_OLD_PROT_NONE, 3, 8)

    def maps_a_page(self, words: _Words) -> npt.NDArray[np.bool_]:
        """Which entries of PTE pages map a page, even one that may not be touched."""
        mapped: npt.NDArray[np.bool_] = words & self._maps_a_page != 0
        return mapped

    def frames(self, words: _Words) -> _Words:
        """The physical addresses in entries that map a page or point to a table."""
        return words & self._frame | (words & self._high) << _HIGH_SHIFT

    def is_table(self, words: _Words) -> npt.NDArray[np.bool_]:
        """Which upper entries point to a table."""
        table: npt.NDArray[np.bool_] = np.equal(words & _TYPE, _TABLE)
        return table

    def swap_types(self, words: _Words) -> _Words:
        """The types of swap entries."""
        return words >> self._type_shift & _TYPE_BITS

    def swap_offsets(self, words: _Words) -> _Words:
        """The offsets of swap entries."""
        return words >> self._offset_shift
