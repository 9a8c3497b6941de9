# SPDX-License-Identifier: GPL-2.0-only
"""The input of the rules: a snapshot, facts about host and mappings, and the purges.

All of it is plain data; nothing here reads a running system.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from shadow.advice.programs import Program, program_of
from shadow.events import EventBatch, Kind
from shadow.geometry import X86_64, Geometry
from shadow.mapping_names import MappingKind, MappingNames
from shadow.mapping_owners import owners_of
from shadow.mappings import MappingUse
from shadow.memory_limit import NoRoomError
from shadow.policy import Policy
from shadow.snapshot import Allocator, Snapshot
from shadow.table.counters import Counter
from shadow.table.vma import VmaFlag
from shadow.whatif import Future, Outcome, Transform, simulate, unchanged

__all__ = (
    "FEW",
    "FEW_BYTES",
    "Evidence",
    "HostFacts",
    "Purges",
    "Slots",
    "classify_slots",
    "measure_purges",
)

FEW = 16
"""A change that saves less than so many PTE pages of 4 KiB is not worth a restart."""
FEW_BYTES = FEW * X86_64.page
_CREDIBLE = 0.9
"""A replayed history is credible if it ends with at least this share of the real PTE pages."""


@dataclass(frozen=True)
class HostFacts:
    """The machine and its settings.

    Attributes:
        max_map_count: vm.max_map_count, the limit on mappings of a process; None: unknown.
        thp: the setting of transparent huge pages.
        resident: bytes that the entries of the process map, in memory or swapped out.
        vmas: the number of mappings of the process.
    """

    max_map_count: int | None
    thp: str
    resident: int
    vmas: int


@dataclass(frozen=True)
class Slots:
    """The empty slots, by what prevents the kernel from freeing their PTE pages.

    Attributes:
        whole: first addresses of the slots that one private anonymous mapping covers.
        split: the number of slots that several mappings share, or that one covers in part.
        other: the number of slots that belong to files, shared memory or locked memory.
        huge: the number of slots in `whole` that could take a huge page.
        shared: first addresses of the slots in `other` that one shared mapping covers, whose data
            is in a file or in memory that outlives the mapping.
    """

    whole: list[int]
    split: int
    other: int
    huge: int
    shared: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Purges:
    """The madvise calls of a window.

    Attributes:
        dontneed: the number of calls with MADV_DONTNEED.
        covering: the number of these calls that cover at least one whole slot.
        bytes: the total size of these calls.
        median: the median size of these calls, bytes.
    """

    dontneed: int
    covering: int
    bytes: int
    median: int


def measure_purges(events: EventBatch, slot: int) -> Purges:
    """Measure the purges in a batch of events; `slot` is the size of a slot."""
    dontneed = events[events["kind"] == Kind.DONTNEED]
    start, length = dontneed["address"].astype(np.int64), dontneed["length"].astype(np.int64)
    first_slot = -(-start // slot) * slot
    return Purges(
        dontneed=len(dontneed),
        covering=int(np.count_nonzero(first_slot + slot <= start + length)),
        bytes=int(length.sum()),
        median=int(np.median(length)) if len(length) else 0,
    )


_LASTING = (
    *(MappingKind.FILE, MappingKind.MEMFD, MappingKind.SYSV_SHM, MappingKind.POSIX_SHM),
    MappingKind.SHARED_ANONYMOUS,
)
"""Kinds of mappings whose pages come back as they were after MADV_DONTNEED, if shared."""


def _lasting(vmas: npt.NDArray[np.void], names: MappingNames | None) -> npt.NDArray[np.bool_]:
    """Which VMAs are shared and keep their data elsewhere; of a device that is not known."""
    if names is None:
        return np.zeros(len(vmas), np.bool_)
    owners = owners_of(vmas, names, 0)
    lasting = np.array([owner.kind in _LASTING for owner in owners.owners], np.bool_)
    special = VmaFlag.LOCKED | VmaFlag.HUGETLB
    shared = (vmas["flags"] & VmaFlag.SHARED != 0) & (vmas["flags"] & special == 0)
    found: npt.NDArray[np.bool_] = shared & lasting[owners.of] if len(vmas) else shared
    return found


def classify_slots(
    empty: list[int],
    vmas: npt.NDArray[np.void],
    thp: str,
    geometry: Geometry,
    names: MappingNames | None = None,
) -> Slots:
    """Classify empty slots by the mappings over them.

    Args:
        empty: first addresses of the slots, ascending.
        vmas: (n,) of `shadow.table.VMA`, sorted.
        thp: the setting of transparent huge pages.
        geometry: the shape of the page tables.
        names: what was read of the mappings; without them no slot is `shared`.
    """
    slots = np.array(empty, np.int64)
    first = np.searchsorted(vmas["end"], slots, side="right")
    inside = first < len(vmas)
    slots, first = slots[inside], first[inside]
    vma = vmas[first]
    covered = (vma["start"] <= slots) & (vma["end"] >= slots + geometry.slot)
    special = VmaFlag.SHARED | VmaFlag.LOCKED | VmaFlag.HUGETLB
    plain = (vma["file"] == 0) & (vma["flags"] & special == 0)
    asked = (vma["flags"] & VmaFlag.HUGEPAGE != 0) & (thp == "madvise")
    may = ((thp == "always") | asked) & (vma["flags"] & VmaFlag.NOHUGEPAGE == 0)
    return Slots(
        whole=slots[covered & plain].tolist(),
        split=int(np.count_nonzero(~covered)) + int(np.count_nonzero(~inside)),
        other=int(np.count_nonzero(covered & ~plain)),
        huge=int(np.count_nonzero(covered & plain & may)),
        shared=slots[covered & _lasting(vmas, names)[first]].tolist(),
    )


@dataclass(frozen=True)
class Evidence:
    """The complete input of a rule.

    Attributes:
        snapshot: the process at the end of the window.
        host: the machine.
        slots: the empty slots of the process; None if their addresses are unknown.
        future: the history of the process in the window, on which changes are simulated.
        seeded: whether the page tables at the beginning of the window are known.
        ended: whether the process has ended.
        redacted: whether the trace lacks settings and has other addresses.
        alike: number of processes of the same name that are judged together, this one included.
    """

    snapshot: Snapshot
    host: HostFacts
    slots: Slots | None = None
    future: Future | None = None
    seeded: bool = True
    ended: bool = False
    redacted: bool = False
    alike: int = 1

    @property
    def kernel_frees(self) -> bool:
        """Whether the kernel frees the PTE page of a slot that one MADV_DONTNEED covers."""
        return self.snapshot.kernel.policy != Policy.NONE.label

    @property
    def geometry(self) -> Geometry:
        """The shape of the page tables."""
        return self.snapshot.kernel.geometry

    def enough(self, together: int) -> float:
        """The PTE pages that each has to have, for all that are judged together to have enough.

        Args:
            together: what is enough, in PTE pages of 4 KiB. Larger ones waste as much in fewer.
        """
        return together * X86_64.page / self.geometry.page / self.alike

    @property
    def allocator(self) -> Allocator | None:
        """The allocator of most of the process's memory."""
        return self.snapshot.process.allocator

    @property
    def program(self) -> Program | None:
        """What it is, if its readers mostly run it and did not write it."""
        return program_of(self.snapshot.process)

    @property
    def uses(self) -> list[MappingUse]:
        """Which mappings own its page tables; none where that is not known."""
        return self.snapshot.mappings or []

    def runs(self, *names: str) -> bool:
        """Whether the name of the allocator is one of `names`."""
        return self.allocator is not None and self.allocator.name in names

    @cached_property
    def purges(self) -> Purges | None:
        """The purges in the window; None if its events were not kept."""
        if self.future is None or not len(self.future.events):
            return None
        return measure_purges(self.future.events, self.geometry.slot)

    @cached_property
    def baseline(self) -> Outcome | None:
        """The outcome of the unchanged history; None if it does not reproduce the real PTE pages.

        In that case events are missing, or page tables changed without an event.
        """
        if self.future is None or not self.future.usable():
            return None
        found = simulate(self.future, unchanged)
        known = self.snapshot.now.pte_pages
        near = min(found.pte_pages, known) >= _CREDIBLE * max(found.pte_pages, known)
        return found if near else None

    def under(self, change: Transform) -> Outcome | None:
        """The outcome of the history under a change; None without a credible `baseline`."""
        if self.baseline is None or self.future is None:
            return None
        with suppress(NoRoomError):
            return simulate(self.future, change)
        return None

    @property
    def late(self) -> bool:
        """Whether most of the empty PTE pages were empty before the window, for unknown reasons."""
        if self.future is None:
            return False
        seed = self.future.seed
        return 2 * seed.counter(Counter.EMPTY + seed.running) > self.snapshot.now.empty > 0

    def saved(self, change: Transform) -> int | None:
        """PTE pages that a change would have saved; None if no prediction is possible."""
        changed = self.under(change)
        if changed is None or self.baseline is None:
            return None
        saved = self.baseline.pte_pages - changed.pte_pages
        return None if saved < self.enough(FEW) and self.late else saved

    @property
    def empty_bytes(self) -> int:
        """The size of the empty PTE pages, bytes."""
        return self.snapshot.now.empty * self.geometry.page
