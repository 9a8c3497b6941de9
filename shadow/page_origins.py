# SPDX-License-Identifier: GPL-2.0-only
"""The origin of each PTE page, as columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from shadow.origins import BEFORE, call_name, is_sized, thread_name
from shadow.table.state import page_size_of

__all__ = ("PageOrigins", "origins_of")


@dataclass(frozen=True)
class PageOrigins:
    """The origin of each of n PTE pages, as columns.

    Attributes:
        made_call: (n,) what made the PTE page.
        made_by: (n,) the name of the thread; None: unknown, or no thread.
        made_ns: (n,) the time, CLOCK_MONOTONIC; None: before the window.
        emptied_call: (n,) what removed the last entry; None: the PTE page has entries.
        emptied_bytes: (n,) the size of that call; None: it has no size.
        emptied_by: (n,) the name of the thread; None: unknown, or no thread.
        emptied_ns: (n,) the time; None: before the window.
    """

    made_call: list[str]
    made_by: list[str | None]
    made_ns: list[int | None]
    emptied_call: list[str | None]
    emptied_bytes: list[int | None]
    emptied_by: list[str | None]
    emptied_ns: list[int | None]


def origins_of(records: npt.NDArray[Any], threads: Mapping[int, str]) -> PageOrigins:
    """The origin of each PTE page record.

    Args:
        records: (n,) of `shadow.table.state.record_type`.
        threads: names of threads by tid.
    """
    made = zip(records["made_call"].tolist(), records["made"].tolist(), strict=True)
    columns = ("refs", "emptied_call", "emptied_pages", "emptied_by", "emptied")
    page = page_size_of(records)
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
            pages * page if is_sized(code) and not refs and pages else None
            for refs, code, pages, _, _ in emptied
        ],
        emptied_by=[None if refs else thread_name(tid, threads) for refs, _, _, tid, _ in emptied],
        emptied_ns=[time if time and not refs else None for refs, _, _, _, time in emptied],
    )
