# SPDX-License-Identifier: GPL-2.0-only
"""The event: a change of a page table as a record of 40 bytes, one numpy dtype.

The probes write this layout (`tracer/bpf/probes`), the ring buffer is read as an
array of events, and the shadow table applies them. Addresses and lengths are in
bytes and page aligned, except the address of a fault. Times are nanoseconds of
CLOCK_MONOTONIC (`bpf_ktime_get_ns`).

The docstring of each kind defines `length` and `aux`.
"""

import weakref
from collections.abc import Callable, Mapping
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
"""In `aux` of MAP: device memory. Its driver may fill it, and its VMA never merges."""

NOT_CACHED = 1 << 29
"""In `aux` of MAP: not a regular file on disk, so its pages may not be in the page cache."""

PKEY_SHIFT = 8
"""In `aux` of PROTECT: above the prot, the protection key plus 1 (0: unchanged)."""

FILE_TRUNCATED = 1
"""In `aux` of TRUNCATE: the file was truncated, and every mapping of it loses those pages."""
FILE_HOLE = 2
"""In `aux` of TRUNCATE: a hole was punched; private copies of its pages stay."""

LABEL_BITS = 24
"""In `aux` of LABEL: the number of value bits; the `Label` is above them."""
PKEY_BITS, NAME_BITS, POLICY_BITS, USERFAULT_BITS = 4, 15, 14, 5
"""Widths in bits of protection keys, names, memory policies and userfaultfds."""


PARTLY = 1 << 31
"""In `aux`: the call failed after it had processed everything before the first hole."""


UNFILLED = 1 << 30
"""In `aux` of a call that fills what it maps: only a reading shows which pages got entries."""


DISCARDED = 1
"""In `aux` of RECLAIM: the entries are none now, because the pages were lazyfree or a file's."""


DEFERRED = 1
"""In `aux` of PTE_FREE: freed after an RCU grace period (pte_free_defer), because a file got a
huge page."""


class Kind(IntEnum):
    """The kind of an event; the numbers are part of the trace format."""

    THREAD = 0
    """A thread ends; address and length: its name, 16 bytes. A trace never contains this kind: it
    has the names of threads in its facts."""
    FAULT = 1
    """A page fault begins. aux: the x86 error code, bit 31 set in kernel mode."""
    DONTNEED = 2
    """MADV_DONTNEED or MADV_DONTNEED_LOCKED; aux: the advice."""
    FREE = 3
    """MADV_FREE."""
    UNMAP = 4
    """munmap returned; length 0: it failed, so its UNMAP_BEGIN is void."""
    UNMAP_BEGIN = 5
    """munmap was entered: from now on another thread may map its range again."""
    TRUNCATE = 6
    """MADV_REMOVE: every mapping loses these pages of the file."""
    MAP = 7
    """mmap; aux: prot and flags (`MAP_FLAGS_SHIFT`)."""
    PROTECT = 8
    """mprotect; aux: prot, and `PARTLY` if the call failed at a hole."""
    REMAP_FROM = 9
    """mremap was entered with this old range; aux: flags."""
    REMAP_TO = 10
    """mremap returned this new range; length 0: it failed."""
    BRK = 11
    """brk; address: the program break after the call."""
    POPULATE = 12
    """MADV_POPULATE_READ or MADV_POPULATE_WRITE, whatever it returned; aux: the advice."""
    ADVISE = 13
    """Any other madvise that changes VMAs or pages; aux: the advice."""
    LOCK = 14
    """mlock, mlock2, mlockall (address 0, length 0); aux: flags and, if it failed, `PARTLY`."""
    UNLOCK = 15
    """munlock, munlockall (address 0, length 0); aux: `PARTLY`."""
    FORK = 16
    """A child with its own copy of the address space; address: its tgid."""
    EXEC = 17
    """The address space was replaced."""
    EXIT = 18
    """The last thread has exited."""
    LOSS = 19
    """Events are missing here; length: how many; aux: how often the kernel has skipped a probe of
    this or another process since the last such event."""
    PTE_ALLOC = 20
    """The kernel put a PTE page into the tree (pmd_install); the address is unknown."""
    PTE_FREE = 21
    """The kernel took a PTE page out of the tree and freed it; aux: `DEFERRED` or 0."""
    SPLIT = 22
    """The PMD of a huge page was split (__split_huge_pmd); address: its slot."""
    COLLAPSE = 23
    """The pages of a slot became a huge page (collapse_huge_page)."""
    RECLAIM = 24
    """Reclaim unmapped a folio (try_to_unmap_one); aux: `DISCARDED`, or 0: swap entries remain."""
    SPAWN = 25
    """A child that shared the address space (vfork, posix_spawn) called execve and now has its
    own; address: its tgid."""
    FILL = 26
    """Something other than a fault set entries, such as userfaultfd; aux: see `Doubt`."""
    FILE = 27
    """The file that the next MAP of the same thread maps; aux: identity of the open file, 30 bits;
    address: offset in the file, modulo 2^46."""
    LABEL = 28
    """A property in which VMAs must agree to merge was set; aux: the `Label` and its value."""
    DETACH = 29
    """shmdt or io_destroy; address: where that mapping began."""
    DOUBT = 30
    """Entries or VMAs of the range may have changed in an unknown way; length 0: anywhere;
    aux: see `Doubt`."""
    FILE_ZAP = 31
    """A file loses pages, in every process that maps it; address: offset in the file; tid: inode
    number; cpu: `FILE_TRUNCATED` or `FILE_HOLE`; aux: device. A trace never contains this kind:
    TRUNCATE replaces it for each process that maps the file."""


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
    """The cause of a DOUBT or a FILL."""

    CALL = 0
    """A call failed and may have done part of its work."""
    USERFAULTFD = 1
    DIRECT_IO = 2
    """get_user_pages on behalf of the process: O_DIRECT, vmsplice, registered buffers."""
    REMOTE = 3
    """Another process: process_vm_writev, process_madvise."""
    FILE = 4
    """A file that the process maps was truncated."""
    ATTACHED = 5
    """shmat or a similar call mapped something at this address."""
    COMPAT = 6
    """A 32-bit system call (int 0x80)."""
    MAPPINGS = 7
    """VMAs changed in a way that the shadow does not model; entries did not change."""


_NAMES: Mapping[int, str] = {kind.value: kind.name.lower() for kind in Kind}


_last: tuple[Callable[[], EventBatch | None], frozenset[int]] = (lambda: None), frozenset()
"""A reference to the last batch of `kinds_of`, and its result."""


def kinds_of(events: EventBatch) -> frozenset[int]:
    """The kinds that occur in a batch; this is faster than a search for one of them.

    Several users ask for those of the same batch in turn, so the last result is kept. A batch must
    not get other kinds afterwards.
    """
    global _last
    batch, kinds = _last
    if batch() is not events:
        kinds = frozenset(np.bincount(events["kind"]).nonzero()[0].tolist())
        _last = weakref.ref(events), kinds
    return kinds


def births(events: EventBatch) -> EventBatch:
    """The events at which a child gets its own page tables, in order."""
    if not kinds_of(events) & {Kind.FORK, Kind.SPAWN}:
        return events[:0]
    children: EventBatch = events[np.isin(events["kind"], (Kind.FORK, Kind.SPAWN))]
    return children


def uses_userfaultfd(events: EventBatch) -> bool:
    """Whether a userfaultfd caused any of the events."""
    if not kinds_of(events) & {Kind.FILL, Kind.DOUBT, Kind.LABEL}:
        return False
    by_whom = np.isin(events["kind"], (Kind.FILL, Kind.DOUBT))
    registered = (events["kind"] == Kind.LABEL) & (events["aux"] >> LABEL_BITS == Label.USERFAULT)
    return bool((by_whom & (events["aux"] == Doubt.USERFAULTFD) | registered).any())


def count_kinds(counts: npt.NDArray[np.int64]) -> dict[str, int]:
    """Convert counts indexed by kind to counts by name, without zeros."""
    return {name: int(counts[kind]) for kind, name in _NAMES.items() if counts[kind]}
