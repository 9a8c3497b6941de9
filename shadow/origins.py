# SPDX-License-Identifier: GPL-2.0-only
"""Origins as reports show them: who made the PTE pages, and what emptied the empty ones.

The table keeps for each PTE page the event that made it and the event that took its last
entry (`shadow.table.origin`). Here these become names, and PTE pages with like origins
become one line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shadow.events import FILE_HOLE, FILE_TRUNCATED, Kind
from shadow.geometry import PAGE
from shadow.table.origin import (
    GUARD_INSTALL,
    KIND_BITS,
    LAZYFREE,
    LOCKED,
    PAGEOUT,
    READING,
)

__all__ = (
    "BEFORE",
    "Origin",
    "Origins",
    "PageOrigins",
    "call_name",
    "group_origins",
    "origins_of",
    "thread_name",
)

BEFORE = "before the window"
"""The origin of what the seed found."""
_BEFORE = -1
_Column = npt.NDArray[np.int64]
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
    """What an origin's code stands for, in the words of manual pages."""
    kind, variant = code & ((1 << KIND_BITS) - 1), code >> KIND_BITS
    if code == READING:
        return _UNSEEN
    name = _VARIANTS.get((Kind(kind), variant)) or _NAMES.get(Kind(kind))
    return name or Kind(kind).name.lower()


def thread_name(tid: int, threads: Mapping[int, str]) -> str | None:
    """A thread by its name, or by its number where no name is known; None: no thread."""
    if tid == 0:
        return None
    return threads.get(tid, f"thread {tid}")


@dataclass(frozen=True)
class Origin:
    """PTE pages of one origin.

    Attributes:
        call: what made or emptied them: a call, a fault, or what the kernel does by itself.
        least_bytes: the calls were at least this large, a power of two; 0: they have no size.
        most_bytes: and not larger than this.
        thread: the name of the threads that did it; None: not known, or no thread.
        pte_pages: how many PTE pages.
        first_ns: when the first of them was made or emptied, CLOCK_MONOTONIC; 0: not known.
        last_ns: when the last one was.
    """

    call: str
    least_bytes: int
    most_bytes: int
    thread: str | None
    pte_pages: int
    first_ns: int
    last_ns: int


@dataclass(frozen=True)
class Origins:
    """Where the PTE pages of a process come from.

    Attributes:
        emptied: what emptied the empty ones, largest group first; together all empty PTE
            pages whose addresses are known.
        made: who made those that are empty, likewise.
    """

    emptied: list[Origin]
    made: list[Origin]


@dataclass(frozen=True)
class PageOrigins:
    """The origin of each of n PTE pages, as columns.

    Attributes:
        made_call: (n,) what made it.
        made_by: (n,) the name of the thread; None: not known, or no thread.
        made_ns: (n,) when, CLOCK_MONOTONIC; None: before the window.
        emptied_call: (n,) what took its last entry; None: it has entries.
        emptied_bytes: (n,) the size of that call; None: it has none.
        emptied_by: (n,) the name of the thread.
        emptied_ns: (n,) when; None: before the window.
    """

    made_call: list[str]
    made_by: list[str | None]
    made_ns: list[int | None]
    emptied_call: list[str | None]
    emptied_bytes: list[int | None]
    emptied_by: list[str | None]
    emptied_ns: list[int | None]


def origins_of(records: npt.NDArray[Any], threads: Mapping[int, str]) -> PageOrigins:
    """The origins of PTE page records, one by one.

    Args:
        records: (n,) of `shadow.table.state.RECORD`.
        threads: names of threads by tid.
    """
    made = zip(records["made_call"].tolist(), records["made"].tolist(), strict=True)
    columns = ("refs", "emptied_call", "emptied_pages", "emptied_by", "emptied")
    emptied = list(zip(*(records[column].tolist() for column in columns), strict=True))
    return PageOrigins(
        made_call=[call_name(code) if time else BEFORE for code, time in made],
        made_by=[thread_name(tid, threads) for tid in records["made_by"].tolist()],
        made_ns=[time or None for time in records["made"].tolist()],
        emptied_call=[
            None if refs else call_name(code) if time else BEFORE
            for refs, code, _, _, time in emptied
        ],
        emptied_bytes=[
            pages * PAGE if _is_sized(code) and not refs and pages else None
            for refs, code, pages, _, _ in emptied
        ],
        emptied_by=[None if refs else thread_name(tid, threads) for refs, _, _, tid, _ in emptied],
        emptied_ns=[time if time and not refs else None for refs, _, _, _, time in emptied],
    )


def _is_sized(code: int) -> bool:
    return code & ((1 << KIND_BITS) - 1) in _SIZED


def _size_classes(codes: _Column, pages: _Column) -> _Column:
    """(n,) which powers of two the sizes of calls lie between: twice the exponent, plus 1.

    One less stands for exactly a power of two, and 0 for calls without a size.
    """
    sized = np.isin(codes & ((1 << KIND_BITS) - 1), sorted(_SIZED)) & (pages > 0)
    exponent = np.floor(np.log2(np.maximum(pages, 1))).astype(np.int64)
    exact = pages == np.int64(1) << exponent
    return np.where(sized, 2 * exponent + 1 + ~exact, 0)


def _bytes_of(size_class: int) -> tuple[int, int]:
    """The least and the most bytes of calls of a size class."""
    if size_class == 0:
        return 0, 0
    least = PAGE << (size_class - 1) // 2
    return least, least if size_class % 2 else 2 * least


class _Causes(NamedTuple):
    """What made or emptied each of n PTE pages: (n,) columns."""

    codes: _Column
    pages: _Column
    tids: _Column
    times: _Column


def _grouped(causes: _Causes, threads: Mapping[int, str]) -> list[Origin]:
    """Origins, the largest first."""
    codes, pages, tids, times = causes
    keys = np.stack([np.where(times > 0, codes, _BEFORE), _size_classes(codes, pages), tids])
    kinds, which = np.unique(keys, axis=1, return_inverse=True)
    counts = np.bincount(which.ravel(), minlength=kinds.shape[1])
    first = np.full(kinds.shape[1], np.iinfo(np.int64).max)
    last = np.zeros(kinds.shape[1], np.int64)
    np.minimum.at(first, which.ravel(), times)
    np.maximum.at(last, which.ravel(), times)
    groups: dict[tuple[str, int, int, str | None], tuple[int, int, int]] = {}
    for (code, size, tid), count, begin, end in zip(
        kinds.T.tolist(), counts.tolist(), first.tolist(), last.tolist(), strict=True
    ):
        call = BEFORE if code == _BEFORE else call_name(code)
        key = call, *_bytes_of(size), thread_name(tid, threads)
        more, earlier, later = groups.get(key, (0, begin, end))
        groups[key] = more + count, min(earlier, begin), max(later, end)
    origins = [Origin(*key, *value) for key, value in groups.items()]
    return sorted(origins, key=lambda each: (-each.pte_pages, each.call, each.thread or ""))


def group_origins(records: npt.NDArray[Any], threads: Mapping[int, str]) -> Origins:
    """The origins of the empty ones among PTE page records.

    Args:
        records: (n,) of `shadow.table.state.RECORD`.
        threads: names of threads by tid.
    """
    empty = records[records["refs"] == 0]

    def column(name: str) -> _Column:
        values: _Column = empty[name].astype(np.int64)
        return values

    emptied = _Causes(
        column("emptied_call"), column("emptied_pages"), column("emptied_by"), column("emptied")
    )
    no_size = np.zeros(len(empty), np.int64)
    made = _Causes(column("made_call"), no_size, column("made_by"), column("made"))
    return Origins(_grouped(emptied, threads), _grouped(made, threads))
