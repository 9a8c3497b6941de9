# SPDX-License-Identifier: GPL-2.0-only
"""Entries of page tables: what is counted of them, and how each architecture encodes them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tracer.census.arm64 import Arm64Entries
from tracer.census.kernel_memory import Words
from tracer.census.x86_64 import X86Entries

__all__ = (
    "ENTRY_KINDS",
    "FORMATS",
    "Entries",
    "EntryFormat",
    "entry_kinds",
    "guard_maps",
    "is_leaf",
    "present_maps",
)

_FEWEST_SWAP_TYPES = np.uint64(23)
_MARKER = np.uint64(31)
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


class EntryFormat(Protocol):
    """The encoding of entries on one architecture.

    An entry is none (0), maps a page, or is a swap entry with a type and an offset. The types
    from the top are the marker (31), then device-private (0, 3 or 4 of them), migration (3) and
    poison (1), depending on the configuration. Every kernel has at least 23 types of true swap
    below them (include/linux/swap.h).

    Attributes:
        hardware_bits: bits of an entry that the CPU sets or clears at any time.
    """

    hardware_bits: np.uint64

    def learn(self, inaccessible: int) -> None:
        """Learn from the entry of a page that was written and then made inaccessible."""

    def maps_a_page(self, words: Words) -> npt.NDArray[np.bool_]:
        """Which entries of PTE pages map a page, even one that may not be touched."""

    def frames(self, words: Words) -> Words:
        """The physical addresses in entries that map a page or point to a table."""

    def is_table(self, words: Words) -> npt.NDArray[np.bool_]:
        """Which upper entries point to a table."""

    def swap_types(self, words: Words) -> Words:
        """The types of swap entries."""

    def swap_offsets(self, words: Words) -> Words:
        """The offsets of swap entries."""


FORMATS: Mapping[str, type[X86Entries] | type[Arm64Entries]] = MappingProxyType(
    {"x86-64": X86Entries, "arm64": Arm64Entries}
)
"""By the architecture, as in `shadow.geometry`; created with the size of a page."""


def _maps(entries: npt.NDArray[np.bool_]) -> Words:
    """Bitmaps of entries: (n, entries) to (n, entries / 64)."""
    return np.packbits(entries, axis=1, bitorder="little").view(np.uint64)


def _counts(maps: Words) -> npt.NDArray[np.int64]:
    """(n,) the entries in each bitmap; numpy counts bits faster than truth values."""
    counts: npt.NDArray[np.int64] = np.bitwise_count(maps).sum(axis=1, dtype=np.int64)
    return counts


def present_maps(words: Words) -> Words:
    """Bitmaps of the entries that are not none: (n, entries) words to (n, entries / 64)."""
    return _maps(words != 0)


def entry_kinds(
    words: Words, present: Words, zero_page: int, form: EntryFormat
) -> npt.NDArray[np.int16]:
    """Count the entries of each of `ENTRY_KINDS` in every PTE page.

    Args:
        words: (n, entries).
        present: (n, entries / 64) their `present_maps`.
        zero_page: physical address of the zero page; 0: unknown.
        form: the encoding of entries.

    Returns:
        (n, 5).
    """
    kinds = np.zeros((len(words), len(ENTRY_KINDS)), np.int16)
    mapped = form.maps_a_page(words)
    maps = _maps(mapped)
    kinds[:, 0] = _counts(maps)
    if zero_page:
        kinds[:, 4] = _counts(_maps(form.frames(words) == np.uint64(zero_page)))
    # Few PTE pages have other entries, and the search for them is what takes time.
    mixed = np.flatnonzero((present != maps).any(axis=1))
    if len(mixed):
        rows, columns = np.nonzero(~mapped[mixed] & (words[mixed] != 0))
        types = form.swap_types(words[mixed[rows], columns])
        kind = np.where(types == _MARKER, 3, np.where(types < _FEWEST_SWAP_TYPES, 1, 2))
        np.add.at(kinds, (mixed[rows], kind), 1)
    return kinds


def guard_maps(words: Words, form: EntryFormat) -> npt.NDArray[np.bool_]:
    """Which entries are guard markers."""
    markers = (form.swap_types(words) == _MARKER) & ~form.maps_a_page(words) & (words != 0)
    guards: npt.NDArray[np.bool_] = markers & (form.swap_offsets(words) & _GUARD != 0)
    return guards


def is_leaf(words: Words, form: EntryFormat) -> npt.NDArray[np.bool_]:
    """Which upper entries map a huge page, or replace one.

    The huge page of an entry that is not present is being split or migrated (pmd_mkinvalid,
    pmd_migration_entry), or may not be touched.
    """
    leaf: npt.NDArray[np.bool_] = np.not_equal(words, 0) & ~form.is_table(words)
    return leaf
