# SPDX-License-Identifier: GPL-2.0-only
"""The cells of all moments as a few compressed columns; `static/js/columns.js` reads them.

A row is a slot that has a PTE page at some moment. Its states at the moments are stored as
differences from one moment to the next, most of which are 0. Its owner and its origins are those
of the last moment at which it is there.
"""

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shadow.cells import Causes, Cells
from shadow.origins import call_name, is_sized, thread_name
from shadow.units import NS

__all__ = ("columns_of", "packed")

_MOST_BYTES = 1_500_000
"""The size of the states of all moments; beyond it, every other moment has no map."""
_NS_PER_MS = NS // 1000
_UNKNOWN = -1


def packed(values: npt.NDArray[Any]) -> str:
    """An array, compressed: first the low bytes of all values, then the next ones."""
    planes = np.ascontiguousarray(values).view(np.uint8).reshape(-1, values.dtype.itemsize).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 6)).decode()


def columns_of(every: Sequence[Cells], start_ns: int, slot: int) -> dict[str, Any]:
    """The columns of the cells at some moments.

    Args:
        every: the cells of each moment.
        start_ns: the time from which times count, CLOCK_MONOTONIC.
        slot: the size of a slot.

    Returns:
        `slots`: the number of rows; `slot`: the difference of each slot number (address / size)
        from the one before; `moments`: the indices of the moments that have states; `states`;
        `owner`, `owners`; and `made` and `emptied`, if origins are known.
    """
    slots = np.unique(np.concatenate([cells.slots for cells in every]))
    rows = [np.searchsorted(slots, cells.slots) for cells in every]
    numbers = slots // slot
    owner, owners = _last_owners(every, rows, len(slots))
    chosen, states = _states(every, rows, len(slots))
    threads = every[-1].threads
    columns: dict[str, Any] = {
        "slots": len(slots),
        "slot": packed(np.diff(numbers, prepend=0).astype("<f8")),
        "moments": chosen,
        "states": states,
        "owner": packed(owner.astype("<i4")),
        "owners": owners,
    }
    for what in ("made", "emptied"):
        causes = [getattr(cells, what) for cells in every]
        if causes[-1] is not None:
            columns[what] = _last_causes(causes, rows, len(slots), threads, start_ns)
    return columns


def _states(
    every: Sequence[Cells], rows: list[npt.NDArray[np.int64]], count: int
) -> tuple[list[int], str]:
    """The moments whose states fit, and their states; the last moment always is one of them."""
    chosen = list(range(len(every)))
    while True:
        table = np.zeros((len(chosen), count), "<u4")
        for line, moment in zip(table, chosen, strict=True):
            line[rows[moment]] = every[moment].states
        table[1:] -= table[:-1].copy()
        states = packed(table.ravel())
        if len(states) <= _MOST_BYTES or len(chosen) == 1:
            return chosen, states
        chosen = chosen[::-2][::-1]


def _last_owners(
    every: Sequence[Cells], rows: list[npt.NDArray[np.int64]], count: int
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """The owner of each row when it was there last, and the names of owners."""
    number: dict[str, int] = {}
    owner = np.full(count, _UNKNOWN)
    for cells, row in zip(every, rows, strict=True):
        own = [number.setdefault(name, len(number)) for name in cells.owners]
        owner[row] = np.array([*own, _UNKNOWN])[cells.owner]
    return owner, list(number)


def _last_causes(
    every: list[Causes],
    rows: list[npt.NDArray[np.int64]],
    count: int,
    threads: Mapping[int, str],
    start_ns: int,
) -> dict[str, Any]:
    """What made or emptied each row when it was there last; `ms` is -1 before the window."""
    call, size, tid, time = (np.zeros(count, np.int64) for _ in range(4))
    for causes, row in zip(every, rows, strict=True):
        call[row], size[row] = causes.call, causes.pages
        tid[row], time[row] = causes.tid, causes.time
    codes, which = np.unique(call, return_inverse=True)
    tids, whose = np.unique(tid, return_inverse=True)
    sized = np.isin(call, [code for code in codes.tolist() if is_sized(code)])
    ms = np.where(time > 0, np.maximum(time - start_ns, 0) // _NS_PER_MS, _UNKNOWN)
    return {
        "calls": [call_name(code) for code in codes.tolist()],
        "call": packed(which.ravel().astype("u1")),
        "pages": packed(np.where(sized, size, 0).astype("<u4")),
        "threads": [thread_name(each, threads) for each in tids.tolist()],
        "thread": packed(whose.ravel().astype("<u4")),
        "ms": packed(ms.astype("<f8")),
    }
