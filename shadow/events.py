"""The event: what happened to a page table, 40 bytes, one numpy dtype.

The probes write this layout (`tracer/bpf/probes`), the ring is read as an
array of it, and the shadow table is fed with it. Addresses and lengths are in
bytes and page aligned, except a fault's address; times are nanoseconds of
CLOCK_MONOTONIC (`bpf_ktime_get_ns`).

What `length` and `aux` mean is told beside each kind.
"""

from collections.abc import Mapping
from enum import IntEnum

import numpy as np
import numpy.typing as npt

__all__ = (
    "DEFERRED",
    "DISCARDED",
    "EVENT",
    "EventBatch",
    "Kind",
    "MAP_FLAGS_SHIFT",
    "PARTLY",
    "UNFILLED",
    "births",
    "count_kinds",
    "kinds_of",
)

EVENT = np.dtype(
    [
        ("time", "<u8"),
        ("address", "<u8"),
        ("length", "<u8"),
        ("tgid", "<u4"),
        ("tid", "<u4"),
        ("kind", "<u2"),
        ("cpu", "<u2"),
        ("aux", "<u4"),
    ]
)
"""One event; `EVENT.itemsize` is 40."""

EventBatch = npt.NDArray[np.void]
"""A batch: shape (n,), dtype `EVENT`, in the kernel's order."""

MAP_FLAGS_SHIFT = 8
"""In a MAP event `aux` holds prot in the low byte and the MAP_ flags above it."""


PARTLY = 1 << 31
"""In `aux`: the call failed, but what lies before the first hole is done."""


UNFILLED = 1 << 30
"""In `aux` of a call that fills what it maps: which pages got entries, only a reading tells."""


DISCARDED = 1
"""In `aux` of RECLAIM: the entries are none now, for the pages were lazyfree or a file's."""


DEFERRED = 1
"""In `aux` of PTE_FREE: freed after an RCU grace period, where a file got a huge page."""


class Kind(IntEnum):
    """What an event is; the numbers are part of the trace format."""

    FAULT = 1
    """A page fault begins. aux: the x86 error code, bit 31 set in kernel mode."""
    DONTNEED = 2
    """MADV_DONTNEED or MADV_DONTNEED_LOCKED; aux: the advice."""
    FREE = 3
    """MADV_FREE."""
    UNMAP = 4
    """munmap returned; length 0: it failed, forget its UNMAP_BEGIN."""
    UNMAP_BEGIN = 5
    """munmap was entered: from now on its range may be mapped again by others."""
    TRUNCATE = 6
    """MADV_REMOVE: the file's pages leave every mapping."""
    MAP = 7
    """mmap; aux: prot and flags (`MAP_FLAGS_SHIFT`)."""
    PROTECT = 8
    """mprotect; aux: prot, and `PARTLY` where the call failed at a hole."""
    REMAP_FROM = 9
    """mremap was entered with this old range; aux: flags."""
    REMAP_TO = 10
    """mremap returned this new range; length 0: it failed."""
    BRK = 11
    """brk; address: the program break after the call."""
    POPULATE = 12
    """MADV_POPULATE_READ or MADV_POPULATE_WRITE, whatever they returned; aux: the advice."""
    ADVISE = 13
    """Any other madvise that changes VMAs or pages; aux: the advice."""
    LOCK = 14
    """mlock, mlock2, mlockall (address 0, length 0); aux: flags and, where it failed, `PARTLY`."""
    UNLOCK = 15
    """munlock, munlockall (address 0, length 0); aux: `PARTLY`."""
    FORK = 16
    """A child with its own copy of the address space; address: its tgid."""
    EXEC = 17
    """The address space was replaced."""
    EXIT = 18
    """The last thread is gone."""
    LOSS = 19
    """Events are missing here; length: how many."""
    PTE_ALLOC = 20
    """The kernel put a PTE page into the tree (pmd_install); it does not say where."""
    PTE_FREE = 21
    """The kernel took one out and freed it; aux: `DEFERRED` (pte_free_defer), or 0."""
    SPLIT = 22
    """A huge page's PMD was split (__split_huge_pmd); its slot."""
    COLLAPSE = 23
    """The pages of a slot became a huge page (collapse_huge_page)."""
    RECLAIM = 24
    """Reclaim unmapped a folio (try_to_unmap_one); aux: `DISCARDED`, or they are swap entries."""
    SPAWN = 25
    """A child that shared the address space (vfork, posix_spawn) has called execve, and has its
    own; address: its tgid."""


_NAMES: Mapping[int, str] = {kind.value: kind.name.lower() for kind in Kind}


def kinds_of(events: EventBatch) -> set[int]:
    """The kinds that a batch has, in less time than looking for one of them takes."""
    return set(np.flatnonzero(np.bincount(events["kind"])).tolist())


def births(events: EventBatch) -> EventBatch:
    """Those that tell of children with page tables of their own, in order."""
    if not kinds_of(events) & {Kind.FORK, Kind.SPAWN}:
        return events[:0]
    told: EventBatch = events[np.isin(events["kind"], (Kind.FORK, Kind.SPAWN))]
    return told


def count_kinds(counts: npt.NDArray[np.int64]) -> dict[str, int]:
    """Name the kinds in an array of counts indexed by kind, leaving out zeros."""
    return {name: int(counts[kind]) for kind, name in _NAMES.items() if counts[kind]}
