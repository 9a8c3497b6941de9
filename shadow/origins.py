# SPDX-License-Identifier: GPL-2.0-only
"""The origins of PTE pages for reports: who made them, and what emptied them.

For each PTE page, the table keeps the event that made it and the event that removed its last
entry (`shadow.table.origin`). This module names these events and groups PTE pages by origin.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shadow.events import FILE_HOLE, FILE_TRUNCATED, Kind
from shadow.mapping_owners import Owner
from shadow.table.origin_codes import (
    GUARD_INSTALL,
    KIND_BITS,
    LAZYFREE,
    LOCKED,
    PAGEOUT,
    READING,
)
from shadow.table.state import page_size_of

__all__ = (
    "BEFORE",
    "Origin",
    "Origins",
    "call_name",
    "group_origins",
    "is_sized",
    "thread_name",
)

BEFORE = "before the window"
"""The origin of PTE pages that are in the seed."""
_BEFORE = -1
_Column = npt.NDArray[np.int64]
_Key = tuple[str, int, int, str | None, str | None, str | None]
_UNSEEN = "no event (found by a reading)"
_NAMES = {
    Kind.FAULT: "fault",
    Kind.DONTNEED: "MADV_DONTNEED",
    Kind.FREE: "MADV_FREE",
    Kind.UNMAP: "munmap",
    Kind.TRUNCATE: "MADV_REMOVE",
    Kind.MAP: "mmap",
    Kind.PROTECT: "mprotect",
    Kind.REMAP_TO: "mremap",
    Kind.BRK: "brk",
    Kind.POPULATE: "MADV_POPULATE",
    Kind.ADVISE: "madvise",
    Kind.LOCK: "mlock",
    Kind.FORK: "fork",
    Kind.SPLIT: "split of a huge page",
    Kind.COLLAPSE: "collapse into a huge page",
    Kind.RECLAIM: "reclaim",
    Kind.FILL: "userfaultfd or direct I/O",
    Kind.DETACH: "shmdt",
}
_VARIANTS = {
    (Kind.DONTNEED, LOCKED): "MADV_DONTNEED_LOCKED",
    (Kind.TRUNCATE, FILE_TRUNCATED): "truncation of the file",
    (Kind.TRUNCATE, FILE_HOLE): "fallocate(PUNCH_HOLE)",
    (Kind.ADVISE, GUARD_INSTALL): "MADV_GUARD_INSTALL",
    (Kind.ADVISE, PAGEOUT): "MADV_PAGEOUT",
    (Kind.RECLAIM, LAZYFREE): "MADV_FREE, then reclaim",
}
_SIZED = {
    *(Kind.DONTNEED, Kind.UNMAP, Kind.TRUNCATE, Kind.MAP, Kind.REMAP_TO, Kind.ADVISE),
    *(Kind.PROTECT, Kind.POPULATE),
}
"""Kinds whose `length` is the size of a call."""


def call_name(code: int) -> str:
    """The name of an origin's code, as in manual pages."""
    kind, variant = code & ((1 << KIND_BITS) - 1), code >> KIND_BITS
    if code == READING:
        return _UNSEEN
    name = _VARIANTS.get((Kind(kind), variant)) or _NAMES.get(Kind(kind))
    return name or Kind(kind).name.lower()


def thread_name(tid: int, threads: Mapping[int, str]) -> str | None:
    """The name of a thread, or its number if the name is unknown; None: no thread."""
    if tid == 0:
        return None
    return threads.get(tid, f"thread {tid}")


@dataclass(frozen=True)
class Origin:
    """A group of PTE pages with the same origin.

    Attributes:
        call: what made or emptied them: a call, a fault, or an action of the kernel.
        least_bytes: the calls have at least this size, a power of two; 0: they have no size.
        most_bytes: the calls have at most this size.
        thread: the name of the threads; None: unknown, or no thread.
        kind: the kind of the first mapping in their slots, a `MappingKind`; None: unknown.
        name: the name of that mapping; None: unknown, or it has no name.
        pte_pages: the number of PTE pages.
        first_ns: when the first one was made or emptied, CLOCK_MONOTONIC; 0: unknown.
        last_ns: when the last one was made or emptied.
    """

    call: str
    least_bytes: int
    most_bytes: int
    thread: str | None
    kind: str | None
    name: str | None
    pte_pages: int
    first_ns: int
    last_ns: int


@dataclass(frozen=True)
class Origins:
    """The origins of the empty PTE pages of a process, the largest groups first.

    Attributes:
        emptied: what emptied them; the groups cover all empty PTE pages with known
            addresses.
        made: who made them; the groups cover the same PTE pages.
    """

    emptied: list[Origin]
    made: list[Origin]


def is_sized(code: int) -> bool:
    """Whether the `length` of such an event is the size of a call."""
    return code & ((1 << KIND_BITS) - 1) in _SIZED


def _size_classes(codes: _Column, pages: _Column) -> _Column:
    """(n,) the size class of each call; see `_bytes_of`.

    Calls of exactly 2^k pages have class 2k + 1, calls of 2^k to 2^(k+1) pages class 2k + 2,
    and calls without a size class 0.
    """
    sized = np.isin(codes & ((1 << KIND_BITS) - 1), sorted(_SIZED)) & (pages > 0)
    exponent = np.floor(np.log2(np.maximum(pages, 1))).astype(np.int64)
    exact = pages == np.int64(1) << exponent
    return np.where(sized, 2 * exponent + 1 + ~exact, 0)


def _bytes_of(size_class: int, page: int) -> tuple[int, int]:
    """The minimum and maximum size of calls of a size class, in bytes; `page` is that of a page."""
    if size_class == 0:
        return 0, 0
    least = page << (size_class - 1) // 2
    return least, least if size_class % 2 else 2 * least


class _Causes(NamedTuple):
    """What made or emptied n PTE pages, as (n,) columns."""

    codes: _Column
    pages: _Column
    tids: _Column
    times: _Column
    mapped: _Column
    """The index of an owner, or -1."""


def _grouped(
    causes: _Causes, threads: Mapping[int, str], owners: list[Owner], page: int
) -> list[Origin]:
    """The origins, largest groups first."""
    codes, pages, tids, times, mapped = causes
    keys = np.stack(
        [np.where(times > 0, codes, _BEFORE), _size_classes(codes, pages), tids, mapped]
    )
    kinds, which = np.unique(keys, axis=1, return_inverse=True)
    counts = np.bincount(which.ravel(), minlength=kinds.shape[1])
    first = np.full(kinds.shape[1], np.iinfo(np.int64).max)
    last = np.zeros(kinds.shape[1], np.int64)
    np.minimum.at(first, which.ravel(), times)
    np.maximum.at(last, which.ravel(), times)
    groups: dict[_Key, tuple[int, int, int]] = {}
    for (code, size, tid, owner), count, begin, end in zip(
        kinds.T.tolist(), counts.tolist(), first.tolist(), last.tolist(), strict=True
    ):
        call = BEFORE if code == _BEFORE else call_name(code)
        kind, name = owners[owner][:2] if owner >= 0 else (None, None)
        key = call, *_bytes_of(size, page), thread_name(tid, threads), kind and kind.value, name
        more, earlier, later = groups.get(key, (0, begin, end))
        groups[key] = more + count, min(earlier, begin), max(later, end)
    origins = [Origin(*key, *value) for key, value in groups.items()]
    return sorted(
        origins, key=lambda each: (-each.pte_pages, each.call, each.thread or "", each.name or "")
    )


def group_origins(
    records: npt.NDArray[Any],
    threads: Mapping[int, str],
    owners: list[Owner] | None = None,
    mapped: _Column | None = None,
) -> Origins:
    """The origins of the empty PTE pages.

    Args:
        records: (n,) of `shadow.table.state.record_type`.
        threads: names of threads by tid.
        owners: the owners of mappings.
        mapped: (n,) the index of the owner of each record's mapping, or -1; None: unknown.
    """
    chosen = records["refs"] == 0
    empty = records[chosen]
    where = np.full(len(empty), -1) if mapped is None else mapped[chosen]

    def column(name: str) -> _Column:
        values: _Column = empty[name].astype(np.int64)
        return values

    emptied = _Causes(
        column("emptied_call"),
        column("emptied_pages"),
        column("emptied_by"),
        column("emptied"),
        where,
    )
    no_size = np.zeros(len(empty), np.int64)
    made = _Causes(column("made_call"), no_size, column("made_by"), column("made"), where)
    named, page = owners or [], page_size_of(records)
    return Origins(_grouped(emptied, threads, named, page), _grouped(made, threads, named, page))
