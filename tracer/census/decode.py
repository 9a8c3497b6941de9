# SPDX-License-Identifier: GPL-2.0-only
"""Decode the words of a page-table page.

x86-64 (arch/x86/include/asm/pgtable_types.h, pgtable_64.h): bit 0 is PRESENT. Bit 7 of an upper
entry is PSE (a leaf). Bit 8 of an entry that is not present is PROTNONE, which maps a page that
may not be touched. Any other non-zero word is a swap entry with its type in bits 59 to 63. The
types from the top are the marker (31), then device-private (0, 3 or 4 of them), migration (3)
and poison (1), depending on the configuration. Every kernel has at least 23 types of true swap
below them (include/linux/swap.h).
"""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from tracer.census.kernel_memory import Words

__all__ = (
    "ENTRY_KINDS",
    "Entries",
    "entry_kinds",
    "frames",
    "guard_maps",
    "is_leaf",
    "is_table",
    "present_maps",
)

_PRESENT = np.uint64(1)
_PSE = np.uint64(1 << 7)
_MAPS_A_PAGE = np.uint64(1 | 1 << 8)
_FRAME = np.uint64(0x000F_FFFF_FFFF_F000)
_TYPE_SHIFT = np.uint64(59)
_FEWEST_SWAP_TYPES = np.uint64(23)
_MARKER = np.uint64(31)
_OFFSET_SHIFT = np.uint64(9)
_GUARD = np.uint64(1 << 2)
"""PTE_MARKER_GUARD, include/linux/swapops.h; since v6.13."""


@dataclass
class Entries:
    """Entries of PTE pages that are not none, by type.

    `zero_page` counts those of `present` that map the zero page. `migration` includes
    device-private and poisoned pages, because their type numbers differ between kernels.
    """

    present: int = 0
    swap: int = 0
    migration: int = 0
    marker: int = 0
    zero_page: int = 0


ENTRY_KINDS = tuple(field.name for field in fields(Entries))


def present_maps(words: Words) -> npt.NDArray[np.uint64]:
    """Bitmaps of the entries that are not none: (n, 512) words to (n, 8)."""
    return np.packbits(words != 0, axis=1, bitorder="little").view(np.uint64)


def entry_kinds(words: Words, zero_page: int) -> npt.NDArray[np.int16]:
    """Count the entries of each of `ENTRY_KINDS` in every PTE page.

    Args:
        words: (n, 512).
        zero_page: physical address of the zero page; 0: unknown.

    Returns:
        (n, 5).
    """
    kinds = np.zeros((len(words), len(ENTRY_KINDS)), np.int16)
    mapped = words & _MAPS_A_PAGE != 0
    kinds[:, 0] = np.count_nonzero(mapped, axis=1)
    if zero_page:
        kinds[:, 4] = np.count_nonzero(words & _FRAME == np.uint64(zero_page), axis=1)
    # Few PTE pages have other entries, and the search for them is what takes time.
    mixed = np.flatnonzero(np.count_nonzero(words, axis=1) != kinds[:, 0])
    if len(mixed):
        rows, columns = np.nonzero(~mapped[mixed] & (words[mixed] != 0))
        types = words[mixed[rows], columns] >> _TYPE_SHIFT
        kind = np.where(types == _MARKER, 3, np.where(types < _FEWEST_SWAP_TYPES, 1, 2))
        np.add.at(kinds, (mixed[rows], kind), 1)
    return kinds


def guard_maps(words: Words) -> npt.NDArray[np.bool_]:
    """Which entries are guard markers; the kernel stores swap offsets inverted."""
    markers = (words >> _TYPE_SHIFT == _MARKER) & (words & _MAPS_A_PAGE == 0)
    guards: npt.NDArray[np.bool_] = markers & (~words >> _OFFSET_SHIFT & _GUARD != 0)
    return guards


def is_table(words: Words) -> npt.NDArray[np.bool_]:
    """Which upper entries point to a table."""
    table: npt.NDArray[np.bool_] = np.equal(words & (_PRESENT | _PSE), _PRESENT)
    return table


def is_leaf(words: Words) -> npt.NDArray[np.bool_]:
    """Which upper entries map a huge page, or replace one.

    The huge page of an entry that is not present is being split or migrated (pmd_mkinvalid,
    pmd_migration_entry), or may not be touched.
    """
    leaf: npt.NDArray[np.bool_] = np.not_equal(words, 0) & ~is_table(words)
    return leaf


def frames(words: Words) -> Words:
    """The physical addresses in present entries."""
    return words & _FRAME
