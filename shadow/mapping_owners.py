# SPDX-License-Identifier: GPL-2.0-only
"""Finds the owner of each mapping of a process: its kind and name, from its VMA and its names.

ptescope claims only what it can know. The kernel identifies files, stacks, the heap and named
memory. Sanitizers use fixed addresses, and glibc arenas have a fixed layout. All other memory
without a file is anonymous.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shadow.events import NAME_BITS
from shadow.mapping_names import FileName, MappingKind, MappingNames
from shadow.sanitizers import sanitizer_ranges
from shadow.table.vma import LabelPart, VmaFlag

__all__ = ("Owner", "Owners", "owners_of")

_ACCESS = VmaFlag.READ | VmaFlag.WRITE | VmaFlag.EXEC
_ARENA = 64 << 20
"""HEAP_MAX_SIZE of glibc malloc on 64-bit systems (malloc/arena.c): the size and the alignment of a
heap of an arena."""
_LARGE = 1 << 30
_Vmas = npt.NDArray[np.void]
_Mask = npt.NDArray[np.bool_]
_Indices = npt.NDArray[np.int64]


class Owner(NamedTuple):
    """The owner of mappings; reports have one row for each owner."""

    kind: MappingKind
    name: str | None = None
    device: str = ""
    inode: int = 0


class Owners(NamedTuple):
    """The owners, and (n,) the index of the owner of each VMA."""

    owners: list[Owner]
    of: _Indices


def _runs(vmas: _Vmas, member: _Mask) -> _Indices:
    """(n,) the number of the run of adjacent VMAs that contains each VMA."""
    begins = np.ones(len(vmas), np.bool_)
    begins[1:] = (vmas["start"][1:] != vmas["end"][:-1]) | ~member[1:] | ~member[:-1]
    return np.cumsum(begins) - 1


def _arenas(vmas: _Vmas, plain: _Mask) -> _Mask:
    """Which VMAs are heaps of glibc arenas.

    A heap is 64 MiB long and aligned to 64 MiB. Its first part is accessible, the rest is not.
    Adjacent heaps stay separate, because no heap crosses a multiple of 64 MiB.
    """
    found = np.zeros(len(vmas), np.bool_)
    open_, closed = vmas["flags"] & _ACCESS != 0, vmas["flags"] & _ACCESS == 0
    first = plain & open_ & (vmas["start"] % _ARENA == 0)
    pair = np.flatnonzero(first[:-1] & plain[1:] & closed[1:])
    after = pair + 1
    whole = vmas["start"][after] == vmas["end"][pair]
    whole &= vmas["end"][after] - vmas["start"][pair] == _ARENA
    found[pair[whole]] = found[after[whole]] = True
    return found


def _reservations(vmas: _Vmas, plain: _Mask) -> _Mask:
    """Which VMAs belong to a large run of anonymous VMAs that are mostly inaccessible."""
    run = _runs(vmas, plain)
    size = np.where(plain, vmas["end"] - vmas["start"], 0)
    closed = np.where(vmas["flags"] & _ACCESS == 0, size, 0)
    total, shut = (np.bincount(run, weights=each) for each in (size, closed))
    large: _Mask = plain & (total >= _LARGE)[run] & (2 * shut > total)[run]
    return large


class _Collected:
    """Collects owners, numbered in the order of their first use."""

    def __init__(self, count: int) -> None:
        self._number: dict[Owner, int] = {}
        self.of = np.zeros(count, np.int64)

    def give(self, where: _Mask, owner: Owner) -> None:
        if where.any():
            self.of[where] = self._number.setdefault(owner, len(self._number))

    def give_each(self, where: _Mask, keys: _Indices, owner: Callable[[int], Owner]) -> None:
        """Give each VMA in `where` the owner of its key."""
        found, inverse = np.unique(keys[where], return_inverse=True)
        numbers = [self._number.setdefault(owner(key), len(self._number)) for key in found.tolist()]
        if numbers:
            self.of[where] = np.array(numbers, np.int64)[inverse]

    def result(self) -> Owners:
        """The owners with at least one VMA, in an order that does not depend on the collection.

        The order affects results, because parts of a table are rounded one after another.
        """
        every, used = list(self._number), np.unique(self.of).tolist()
        ordered = sorted(used, key=lambda number: _order(every[number]))
        place = np.zeros(len(every), np.int64)
        place[ordered] = np.arange(len(ordered))
        return Owners([every[number] for number in ordered], place[self.of])


def _order(owner: Owner) -> tuple[str, str, str, int]:
    return owner.kind, owner.name or "", owner.device, owner.inode


def _file_owner(name: FileName | None) -> Owner:
    if name is None:
        return Owner(MappingKind.OTHER)
    return Owner(name.kind, name.name, name.device, name.inode)


def owners_of(vmas: _Vmas, names: MappingNames, brk: int) -> Owners:
    """The owner of each VMA.

    Args:
        vmas: (n,) of `shadow.table.VMA`, sorted.
        names: the names of the VMAs.
        brk: the program break, bytes; 0: unknown.
    """
    flags, file = vmas["flags"], vmas["file"]
    label = flags >> LabelPart.NAME & ((1 << NAME_BITS) - 1)
    shared = flags & VmaFlag.SHARED != 0
    plain = (file == 0) & ~shared & (flags & VmaFlag.GROWSDOWN == 0) & (label == 0)
    private = (file == 0) & ~shared
    heap = private & (vmas["start"] < brk) & (vmas["end"] > names.heap) & (names.heap != 0)
    arenas = _arenas(vmas, plain & ~heap)
    anonymous = plain & ~heap & ~arenas
    found = _Collected(len(vmas))
    found.give(np.ones(len(vmas), np.bool_), Owner(MappingKind.ANONYMOUS))
    found.give(_reservations(vmas, anonymous), Owner(MappingKind.RESERVATION))
    found.give(anonymous & (flags & VmaFlag.EXEC != 0), Owner(MappingKind.JIT))
    found.give(arenas, Owner(MappingKind.ALLOCATOR, "glibc malloc arenas"))
    found.give((file == 0) & shared, Owner(MappingKind.SHARED_ANONYMOUS))
    found.give_each(
        private & (label != 0),
        label,
        lambda hashed: Owner(MappingKind.NAMED, names.labels.get(hashed)),
    )
    found.give(private & (flags & VmaFlag.GROWSDOWN != 0), Owner(MappingKind.STACK, "[stack]"))
    found.give(heap, Owner(MappingKind.HEAP, "[heap]"))
    found.give_each(file != 0, file, lambda key: _file_owner(names.files.get(key)))
    hugetlb = flags & VmaFlag.HUGETLB != 0
    found.give_each(
        hugetlb,
        file,
        lambda key: _file_owner(names.files.get(key))._replace(kind=MappingKind.HUGETLB),
    )
    for one in sanitizer_ranges(vmas["start"]):
        within = (vmas["start"] >= one.start) & (vmas["end"] <= one.end)
        found.give(within, Owner(one.kind, one.name))
    return found.result()
