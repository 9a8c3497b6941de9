# SPDX-License-Identifier: GPL-2.0-only
"""What rules judge: a snapshot, facts about host and mappings, and what was purged.

All of it is plain data; nothing here looks at a running system.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from shadow.events import EventBatch, Kind
from shadow.geometry import PAGE, SLOT
from shadow.snapshot import Allocator, Snapshot
from shadow.table import Counter, VmaFlag
from shadow.whatif import Future, Outcome, Transform, simulate, unchanged

__all__ = ("FEW", "Evidence", "HostFacts", "Purges", "Slots", "classify_slots", "measure_purges")

FEW = 16
"""A change that saves fewer PTE pages, 64 KiB, is not worth a restart."""
_CREDIBLE = 0.9
"""A history that ends with so much of the PTE pages there really are is believed."""


@dataclass(frozen=True)
class HostFacts:
    """The machine and its settings.

    Attributes:
        max_map_count: vm.max_map_count, the most mappings of a process; None: not known.
        thp: the setting of transparent huge pages.
        resident: what the entries of the process map, in memory or swapped out, bytes.
        vmas: its mappings.
    """

    max_map_count: int | None
    thp: str
    resident: int
    vmas: int


@dataclass(frozen=True)
class Slots:
    """The empty slots by what stands in the way of freeing their PTE pages.

    Attributes:
        whole: first addresses of those that one private anonymous mapping covers.
        split: how many several mappings share, or one covers in part.
        other: how many belong to files, shared or locked memory.
        huge: how many of `whole` could take a huge page.
    """

    whole: list[int]
    split: int
    other: int
    huge: int


@dataclass(frozen=True)
class Purges:
    """The madvise calls of a window.

    Attributes:
        dontneed: calls of MADV_DONTNEED.
        covering: those of them that cover at least one slot whole.
        bytes: what they covered in all.
        median: bytes of the call in the middle.
    """

    dontneed: int
    covering: int
    bytes: int
    median: int


def measure_purges(events: EventBatch) -> Purges:
    """What a batch says about purges."""
    dontneed = events[events["kind"] == Kind.DONTNEED]
    start, length = dontneed["address"].astype(np.int64), dontneed["length"].astype(np.int64)
    first_slot = -(-start // SLOT) * SLOT
    return Purges(
        dontneed=len(dontneed),
        covering=int(np.count_nonzero(first_slot + SLOT <= start + length)),
        bytes=int(length.sum()),
        median=int(np.median(length)) if len(length) else 0,
    )


def classify_slots(empty: list[int], vmas: npt.NDArray[np.void], thp: str) -> Slots:
    """Look at what is mapped over empty slots.

    Args:
        empty: first addresses, ascending.
        vmas: (n,) of `shadow.table.VMA`, sorted.
        thp: the setting of transparent huge pages.
    """
    slots = np.array(empty, np.int64)
    first = np.searchsorted(vmas["end"], slots, side="right")
    inside = first < len(vmas)
    slots, first = slots[inside], first[inside]
    vma = vmas[first]
    covered = (vma["start"] <= slots) & (vma["end"] >= slots + SLOT)
    special = VmaFlag.SHARED | VmaFlag.LOCKED | VmaFlag.HUGETLB
    plain = (vma["file"] == 0) & (vma["flags"] & special == 0)
    asked = (vma["flags"] & VmaFlag.HUGEPAGE != 0) & (thp == "madvise")
    may = ((thp == "always") | asked) & (vma["flags"] & VmaFlag.NOHUGEPAGE == 0)
    return Slots(
        whole=slots[covered & plain].tolist(),
        split=int(np.count_nonzero(~covered)) + int(np.count_nonzero(~inside)),
        other=int(np.count_nonzero(covered & ~plain)),
        huge=int(np.count_nonzero(covered & plain & may)),
    )


@dataclass(frozen=True)
class Evidence:
    """Everything that a rule may look at.

    Attributes:
        snapshot: the process at the end of the window.
        host: the machine.
        slots: its empty slots; None where their addresses are not known.
        future: what it did in the window, for trying changes on it.
        seeded: whether its page tables of before the window are known.
        ended: whether it has ended.
        redacted: whether its settings were left out, and its addresses are others.
        alike: how many processes of its name are judged together, itself included.
    """

    snapshot: Snapshot
    host: HostFacts
    slots: Slots | None = None
    future: Future | None = None
    seeded: bool = True
    ended: bool = False
    redacted: bool = False
    alike: int = 1

    def enough(self, together: int) -> float:
        """What each has to have for all that are judged together to have so much."""
        return together / self.alike

    @property
    def allocator(self) -> Allocator | None:
        """The allocator of most of its memory."""
        return self.snapshot.process.allocator

    def runs(self, *names: str) -> bool:
        """Whether that is one of these."""
        return self.allocator is not None and self.allocator.name in names

    @cached_property
    def purges(self) -> Purges | None:
        """What was purged in the window, where events were kept."""
        if self.future is None or not len(self.future.events):
            return None
        return measure_purges(self.future.events)

    @cached_property
    def baseline(self) -> Outcome | None:
        """The history run again as it was; None where it does not lead to what there is.

        Then events are missing, or page tables changed in ways that no event tells.
        """
        if self.future is None or not self.future.usable():
            return None
        found = simulate(self.future, unchanged)
        known = self.snapshot.now.pte_pages
        near = min(found.pte_pages, known) >= _CREDIBLE * max(found.pte_pages, known)
        return found if near else None

    def under(self, change: Transform) -> Outcome | None:
        """The same under a change."""
        if self.baseline is None or self.future is None:
            return None
        return simulate(self.future, change)

    @property
    def late(self) -> bool:
        """Whether most of what is empty was so before the window, which cannot tell why."""
        if self.future is None:
            return False
        seed = self.future.seed
        return 2 * seed.counter(Counter.EMPTY + seed.running) > self.snapshot.now.empty > 0

    def saved(self, change: Transform) -> int | None:
        """PTE pages that a change would have saved, or None if that cannot be told."""
        changed = self.under(change)
        if changed is None or self.baseline is None:
            return None
        saved = self.baseline.pte_pages - changed.pte_pages
        return None if saved < self.enough(FEW) and self.late else saved

    @property
    def empty_bytes(self) -> int:
        """What the empty PTE pages take."""
        return self.snapshot.now.empty * PAGE
