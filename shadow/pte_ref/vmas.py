# SPDX-License-Identifier: GPL-2.0-only
"""VMAs: how they split, and when they merge again.

Two neighbours merge if they agree in all properties of their pages, continue each other in
page offset, and do not have two different anon_vmas. The properties include VM_ACCOUNT,
which mprotect drops from memory that was never written and becomes read-only
(mm/mprotect.c, mprotect_fixup). A VMA gets its anon_vma at the first write, and shares it
with a neighbour if possible. An anon_vma from a fork has parents, and its VMA does not
merge with one that lacks an anon_vma (mm/vma.c, find_mergeable_anon_vma,
is_mergeable_anon_vma, vma_had_uncowed_parents).

All positions are page numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ("Vma", "Vmas")


@dataclass
class Vma:
    """Pages [start, end).

    Attributes:
        start: first page.
        end: page after the last one.
        shared: number of the mapped shared memory; 0: private memory.
        shift: page offset minus first page; 0 unless the VMA was moved.
        anon: number of the anon_vma.
        forked: whether the anon_vma has parents.
        hints: names of the flags that madvise, mseal and userfaultfd have set.
        name: name from prctl(PR_SET_VMA_ANON_NAME); 0: none.
        policy: memory policy from mbind; 0: the default policy.
        key: protection key.
    """

    start: int
    end: int
    writable: bool = True
    accounted: bool = True
    locked: bool = False
    on_fault: bool = False
    shared: int = 0
    shift: int = 0
    anon: int | None = None
    forked: bool = False
    hints: frozenset[str] = field(default_factory=frozenset)
    name: int = 0
    policy: int = 0
    key: int = 0

    def part(self, start: int, end: int) -> range:
        """The pages of the VMA in [start, end)."""
        return range(max(self.start, start), min(self.end, end))

    def alike(self, other: "Vma", **but: Any) -> bool:
        """Whether it differs from `other` only in position, anon_vma and the fields in `but`."""
        place = {"start": 0, "end": 0, "anon": None, "forked": False, **but}
        return replace(self, **place) == replace(other, **place)


class Vmas:
    """The VMAs of a process, ascending.

    Args:
        numbers: the highest number already used for an anon_vma or shared memory.
    """

    def __init__(self, numbers: int = 0) -> None:
        self.all: list[Vma] = []
        self._numbers = numbers

    def number(self) -> int:
        """A number that no anon_vma and no shared memory of this process has used."""
        self._numbers += 1
        return self._numbers

    def over(self, start: int, end: int) -> list[Vma]:
        """The VMAs that overlap [start, end)."""
        return [vma for vma in self.all if vma.start < end and start < vma.end]

    def at(self, page: int) -> Vma | None:
        """The VMA that contains this page."""
        return next(iter(self.over(page, page + 1)), None)

    def first_hole(self, start: int, end: int) -> int:
        """The first page from `start` on without a VMA, at most `end`."""
        while start < end and (vma := self.at(start)):
            start = vma.end
        return min(start, end)

    def _cut(self, at: int) -> None:
        for i, vma in enumerate(self.all):
            if vma.start < at < vma.end:
                self.all.insert(i + 1, replace(vma, start=at))
                vma.end = at
                return

    def _merge(self, at: int) -> None:
        """Merge the VMAs that meet at page `at`, if possible."""
        for left, right in zip(self.all, self.all[1:], strict=False):
            if left.end == right.start == at and left.alike(right) and _mergeable(left, right):
                left.end = right.end
                if left.anon is None:
                    left.anon, left.forked = right.anon, right.forked
                self.all.remove(right)
                return

    def add(self, vma: Vma) -> None:
        """Add a VMA over a range that has none."""
        self.all.append(vma)
        self.all.sort(key=lambda each: each.start)
        start, end = vma.start, vma.end
        self._merge(start)
        self._merge(end)

    def unmap(self, start: int, end: int) -> None:
        """Remove all VMAs from [start, end)."""
        self._cut(start)
        self._cut(end)
        self.all = [vma for vma in self.all if not (start <= vma.start < end)]

    def pieces(self, start: int, end: int) -> Iterator[Vma]:
        """Yield each VMA in [start, end), cut to that range, and merge it afterwards."""
        for vma in self.over(start, end):
            part = vma.part(start, end)
            self._cut(part.start)
            self._cut(part.stop)
            (piece,) = self.over(part.start, part.stop)
            yield piece
            self._merge(part.start)
            self._merge(part.stop)

    def write(self, page: int) -> bool:
        """Apply a write fault; return whether it is allowed."""
        vma = self.at(page)
        if vma is None or not vma.writable:
            return False
        self.prepare(vma)
        return True

    def prepare(self, vma: Vma) -> None:
        """anon_vma_prepare: share the anon_vma of the next or previous VMA, or get a new one."""
        if vma.shared or vma.anon is not None:
            return
        for page in (vma.end, vma.start - 1):
            near = self.at(page)
            lends = near and near.anon is not None and not near.forked
            if near and lends and near.alike(vma, writable=True, name=0):
                vma.anon = near.anon
                return
        vma.anon = self.number()


def _mergeable(left: Vma, right: Vma) -> bool:
    if left.anon == right.anon:
        return True
    return not left.forked and not right.forked and None in (left.anon, right.anon)
