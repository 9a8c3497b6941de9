# SPDX-License-Identifier: GPL-2.0-only
"""Origins as reports show them: who made the PTE pages, and what emptied the empty ones.

The table keeps for each PTE page the event that made it and the event that took its last
entry (`shadow.table.origin`). Here these become names, and PTE pages with like origins
become one line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
        mapping: what is mapped there; None: not known.
        pte_pages: how many PTE pages.
        first_ns: when the first of them was made or emptied, CLOCK_MONOTONIC; 0: not known.
        last_ns: when the last one was.
    """

    call: str
    least_bytes: int
    most_bytes: int
    thread: str | None
    mapping: str | None
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
        emptied_by=[
            None if refs else thread_name(tid, threads) for refs, _, _, tid, _ in emptied
        ],
        emptied_ns=[time if time and not refs else None for refs, _, _, _, time in emptied],
    )


def _is_sized(code: int) -> bool:
    return code & ((1 << KIND_BITS) - 1) in _SIZED


def _size_class(code: int, pages: int) -> tuple[int, int]:
    """The powers of two, in bytes, that the size of a call lies between."""
    if not _is_sized(code) or pages == 0:
        return 0, 0
    least = 1 << (pages.bit_length() - 1)
    return least * PAGE, (least if least == pages else 2 * least) * PAGE


def _grouped(
    codes: npt.NDArray[Any],
    pages: npt.NDArray[Any],
    tids: npt.NDArray[Any],
    times: npt.NDArray[Any],
    mapped: list[str] | None,
    threads: Mapping[int, str],
) -> list[Origin]:
    """Origins, the largest first."""
    groups: dict[tuple[str, int, int, str | None, str | None], list[int]] = {}
    rows = zip(codes.tolist(), pages.tolist(), tids.tolist(), times.tolist(), strict=True)
    for at, (code, count, tid, time) in enumerate(rows):
        call = call_name(code) if time else BEFORE
        where = mapped[at] if mapped else None
        key = call, *_size_class(code, count), thread_name(tid, threads), where
        groups.setdefault(key, []).append(time)
    origins = [Origin(*key, len(times), min(times), max(times)) for key, times in groups.items()]
    return sorted(origins, key=lambda each: (-each.pte_pages, each.call, each.thread or ""))


def group_origins(
    records: npt.NDArray[Any],
    threads: Mapping[int, str],
    mapped: list[str] | None = None,
) -> Origins:
    """The origins of the empty ones among PTE page records.

    Args:
        records: (n,) of `shadow.table.state.RECORD`.
        threads: names of threads by tid.
        mapped: (n,) what each record's slot belongs to; None: not known.
    """
    empty = records["refs"] == 0
    chosen = records[empty]
    names = [mapped[at] for at in np.flatnonzero(empty).tolist()] if mapped else None
    none = np.zeros(len(chosen), np.int64)
    return Origins(
        emptied=_grouped(
            chosen["emptied_call"],
            chosen["emptied_pages"],
            chosen["emptied_by"],
            chosen["emptied"],
            names,
            threads,
        ),
        made=_grouped(
            chosen["made_call"], none, chosen["made_by"], chosen["made"], names, threads
        ),
    )
