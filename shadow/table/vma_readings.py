# SPDX-License-Identifier: GPL-2.0-only
"""Readings of VMAs: adopts them, and compares them with those of the shadow."""

from typing import Any

import numpy as np
import numpy.typing as npt

from shadow.table.counters import Counter
from shadow.table.growing import FIRST_GROWTH, GrowingState
from shadow.table.labels import DROPPABLE, NOT_MERGEABLE
from shadow.table.seed import forget_unmapped, forget_untouched
from shadow.table.vma import ALL_FLAGS, KNOWN_FILE, NO_ANON, NOT_COMPARED, VmaFlag

__all__ = ("DescribedVma", "is_torn", "merges_wrong", "seed_vmas", "wrong_vmas")

_ACCESS = VmaFlag.READ | VmaFlag.WRITE | VmaFlag.EXEC
_NOT_READ = VmaFlag.SPECIAL | VmaFlag.UFFD_MINOR
"""Flags that a reading shows only partly: SPECIAL covers more than VM_SPECIAL."""

_Vmas = npt.NDArray[np.void]
DescribedVma = tuple[int, int, int]
"""A VMA: first address, end, and the flags that are compared."""


def is_torn(vmas: _Vmas) -> bool:
    """Whether VMAs changed during their reading, so that some of them lack attributes.

    Boundaries come from /proc/PID/maps, and then the attributes from the kernel's tree. VMAs that
    differ in the two readings have only the attributes that /proc shows.
    """
    complete = vmas["anon"] != 0
    return bool(complete.any() and not complete.all())


def seed_vmas(space: GrowingState, vmas: _Vmas, brk: int) -> None:
    """Replace the known VMAs; see `Table.seed_vmas`.

    /proc does not show which VMAs share an anon_vma and so may merge. If `anon` is not set,
    this function guesses: neighbours that differ only in access nearly always share one
    (mm/vma.c, reusable_anon_vma); equal neighbours do not, or they would be one VMA.
    """
    count, before = len(vmas), _anon_vmas_before(space, vmas)
    space.lengthen(vmas=count + FIRST_GROWTH)
    s = space.state
    s.vmas[:count] = vmas
    known = int(before.max(initial=0)) + 1
    guessed = np.where(vmas["file"] == 0, np.cumsum(_shares_none(vmas)) + known, 0)
    s.vmas["anon"][:count] = np.where(before == 0, guessed, np.maximum(before, 0))
    s.counters[Counter.ANON_VMAS] = known + count
    numbered = vmas["file"][vmas["file"] & KNOWN_FILE == 0]
    s.counters[Counter.FILES] = max(s.counters[Counter.FILES], numbered.max(initial=0))
    flags = vmas["flags"]
    may_merge = (flags & NOT_MERGEABLE == 0) & (flags & DROPPABLE != DROPPABLE)
    s.counters[Counter.MERGE_ANY] = may_merge.any() and (flags[may_merge] & VmaFlag.MERGEABLE).all()
    s.counters[Counter.VMAS] = count
    s.counters[Counter.VMAS_KNOWN] = 1
    s.counters[Counter.BRK] = brk
    forget_untouched(s, known + 1)
    forget_unmapped(s)


def _shares_none(vmas: _Vmas) -> npt.NDArray[np.bool_]:
    """Guess which VMAs have a different anon_vma than the VMA before them."""
    others = vmas["flags"] & ~(_ACCESS | VmaFlag.ACCOUNT)
    apart = np.ones(len(vmas), np.bool_)
    apart[1:] = (vmas["start"][1:] != vmas["end"][:-1]) | (others[1:] != others[:-1])
    apart[1:] |= (vmas["file"][:-1] != 0) | (vmas["flags"][1:] == vmas["flags"][:-1])
    return apart


def _anon_vmas_before(space: GrowingState, vmas: _Vmas) -> npt.NDArray[np.int64]:
    """The `anon` of these VMAs, including those that came with events since the reading.

    A VMA gets its anon_vma at a fault and keeps it. So if the shadow has an anon_vma that a
    reading lacks, the reading is older.
    """
    anon = vmas["anon"].astype(np.int64)
    known = space.vmas()
    at = np.minimum(np.searchsorted(known["start"], vmas["start"]), max(len(known) - 1, 0))
    if len(known):
        same = (known["start"][at] == vmas["start"]) & (known["end"][at] == vmas["end"])
        private = vmas["flags"] & VmaFlag.SHARED == 0
        later = same & (anon == NO_ANON) & (known["anon"][at] > 0) & private
        anon[later] = known["anon"][at][later] + max(anon.max(initial=0), 0)
    return anon


def _described(vmas: npt.NDArray[Any], flags: int) -> set[DescribedVma]:
    """VMAs as tuples of boundaries and the given flags."""
    columns = (vmas["start"].tolist(), vmas["end"].tolist(), (vmas["flags"] & flags).tolist())
    return set(zip(*columns, strict=True))


def wrong_vmas(known: _Vmas, real: _Vmas) -> set[DescribedVma]:
    """The VMAs that differ in boundaries or flags; see `Table.wrong_vmas`."""
    compared = _ACCESS | VmaFlag.SHARED
    if real["anon"].all():
        compared = ALL_FLAGS & ~(NOT_COMPARED | _NOT_READ)
    return _described(known, compared) ^ _described(real, compared)


def merges_wrong(known: _Vmas, real: _Vmas) -> bool:
    """Whether VMAs with equal boundaries would merge differently; see `Table.merges_wrong`."""
    if not real["anon"].all():
        return False
    labels_differ = (known["flags"] ^ real["flags"]) & ~ALL_FLAGS != 0
    touching = real["end"][:-1] == real["start"][1:]
    files_differ = _alike(known, "file") != _alike(real, "file")
    anons_differ = _alike(known, "anon") != _alike(real, "anon")
    # A VMA without an anon_vma may have got one since the reading.
    has_anon = real["anon"] != NO_ANON
    anons_differ &= has_anon[:-1] & has_anon[1:]
    return bool(labels_differ.any() or ((files_differ | anons_differ) & touching).any())


def _alike(vmas: _Vmas, column: str) -> npt.NDArray[np.bool_]:
    """Whether each VMA agrees with the next one in a column."""
    alike: npt.NDArray[np.bool_] = vmas[column][:-1] == vmas[column][1:]
    return alike
