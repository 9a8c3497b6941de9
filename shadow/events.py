# SPDX-License-Identifier: GPL-2.0-only
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
    "FILE_HOLE",
    "FILE_TRUNCATED",
    "Kind",
    "LABEL_BITS",
    "Label",
    "MAP_FLAGS_SHIFT",
    "NAME_BITS",
    "NOT_CACHED",
    "PKEY_BITS",
    "POLICY_BITS",
    "USERFAULT_BITS",
    "PKEY_SHIFT",
    "SPECIAL",
    "Doubt",
    "PARTLY",
    "UNFILLED",
    "births",
    "count_kinds",
    "kinds_of",
    "uses_userfaultfd",
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


SPECIAL = 1 << 31
"""In `aux` of MAP: a device's memory: its driver may fill it, and it merges with nothing."""

NOT_CACHED = 1 << 29
"""In `aux` of MAP: no regular file on a disk, so its pages need not be in the page cache."""

PKEY_SHIFT = 8
"""In `aux` of PROTECT: the protection key plus 1 (0: as it was), above the prot."""

FILE_TRUNCATED = 1
"""In `aux` of TRUNCATE: the file was cut, and every mapping of it loses those pages."""
FILE_HOLE = 2
"""In `aux` of TRUNCATE: a hole was made; private copies of its pages stay."""

LABEL_BITS = 24
"""In `aux` of LABEL: the value's bits; the `Label` is above them."""
PKEY_BITS, NAME_BITS, POLICY_BITS, USERFAULT_BITS = 4, 15, 14, 5
"""Bits that the values of protection keys, names, policies and userfaultfds have."""


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

    THREAD = 0
    """A thread ends; address and length: its name, 16 bytes. Never part of a trace, where names
    of threads are facts."""
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
    FILL = 26
    """Entries come without a fault, as userfaultfd makes them; aux: see `Doubt`."""
    FILE = 27
    """What the MAP that follows of the same thread maps; aux: identity of the open file, 30 bits;
    address: offset in it, modulo 2^46."""
    LABEL = 28
    """What VMAs have to agree in to merge was set; aux: which `Label`, and its value."""
    DETACH = 29
    """shmdt or io_destroy: address, where that mapping began."""
    DOUBT = 30
    """Entries or VMAs of the range may have changed in a way that is not known; length 0:
    anywhere; aux: see `Doubt`."""
    FILE_ZAP = 31
    """Pages leave a file, in every process that maps it: address, offset in the file; tid: inode
    number; cpu: `FILE_TRUNCATED` or `FILE_HOLE`; aux: device. Never part of a trace: where a
    process maps the file, TRUNCATE takes its place."""


class Label(IntEnum):
    """What a LABEL event sets."""

    NAME = 1
    """prctl(PR_SET_VMA_ANON_NAME): a hash of the name; 0: none."""
    POLICY = 2
    """mbind: a hash of the memory policy; 0: the default one."""
    USERFAULT = 3
    """UFFDIO_REGISTER and _UNREGISTER: modes in the low 3 bits, then the userfaultfd."""
    SEAL = 4
    """mseal."""
    MERGE_ANY = 5
    """prctl(PR_SET_MEMORY_MERGE): 1 on, 0 off."""


class Doubt(IntEnum):
    """Why DOUBT, or who filled (FILL)."""

    CALL = 0
    """A call failed, and may have done a part of its work."""
    USERFAULTFD = 1
    DIRECT_IO = 2
    """get_user_pages of its own: O_DIRECT, vmsplice, registered buffers."""
    REMOTE = 3
    """Another process: process_vm_writev, process_madvise."""
    FILE = 4
    """A file that it maps was cut."""
    ATTACHED = 5
    """shmat and the like have mapped something at this address."""
    COMPAT = 6
    """A 32-bit system call (int 0x80)."""
    MAPPINGS = 7
    """VMAs changed in a way that is not modelled; entries did not."""


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


def uses_userfaultfd(events: EventBatch) -> bool:
    """Whether any of them comes of a userfaultfd."""
    if not kinds_of(events) & {Kind.FILL, Kind.DOUBT, Kind.LABEL}:
        return False
    by_whom = np.isin(events["kind"], (Kind.FILL, Kind.DOUBT))
    registered = (events["kind"] == Kind.LABEL) & (events["aux"] >> LABEL_BITS == Label.USERFAULT)
    return bool((by_whom & (events["aux"] == Doubt.USERFAULTFD) | registered).any())


def count_kinds(counts: npt.NDArray[np.int64]) -> dict[str, int]:
    """Name the kinds in an array of counts indexed by kind, leaving out zeros."""
    return {name: int(counts[kind]) for kind, name in _NAMES.items() if counts[kind]}
