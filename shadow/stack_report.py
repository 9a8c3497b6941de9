# SPDX-License-Identifier: GPL-2.0-only
"""The code that made and emptied the empty PTE pages, for reports and exports."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from shadow.origins import BEFORE, call_name, thread_name
from shadow.stack_store import NOT_SAMPLED, StackStore
from shadow.stacks import Frame, Stack, StackGroup, StackReport
from shadow.units import NS

__all__ = ("stack_report",)


_Key = tuple[str, str | None, int | None, str, str | None, int | None]


def _calls(codes: npt.NDArray[Any], times: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(n,) the code of each call, or -1 for what happened before the window."""
    return np.where(times > 0, codes.astype(np.int64), -1)


def _name(code: int) -> str:
    return BEFORE if code < 0 else call_name(code)


class _Shown:
    """Numbers the stacks and frames that a report shows."""

    def __init__(self, store: StackStore) -> None:
        self._store = store
        self._numbers: dict[int, int] = {}
        self._frames: dict[int, int] = {}
        self.stacks: list[Stack] = []
        self.frames: list[Frame] = []

    def stack(self, number: int) -> int | None:
        """The index of a stack in the report."""
        if number == NOT_SAMPLED:
            return None
        if number not in self._numbers:
            self._numbers[number] = len(self.stacks)
            stack = self._store.stacks[number]
            known = [each for each in stack.frames if each < len(self._store.frames)]
            self.stacks.append(Stack([self._frame(each) for each in known], stack.complete))
        return self._numbers[number]

    def _frame(self, number: int) -> int:
        if number not in self._frames:
            self._frames[number] = len(self.frames)
            self.frames.append(self._store.frames[number])
        return self._frames[number]


def stack_report(
    store: StackStore, records: npt.NDArray[Any], threads: Mapping[int, str], end_ns: int
) -> StackReport | None:
    """The stacks of the empty PTE pages; None: nobody requested stacks.

    Args:
        store: the stacks.
        records: (n,) of `shadow.table.state.record_type`.
        threads: names of threads by tid.
        end_ns: the time up to which page-seconds count, CLOCK_MONOTONIC.
    """
    if store.totals is None:
        return None
    empty = records[records["refs"] == 0]
    keys = np.stack(
        [
            _calls(empty["emptied_call"], empty["emptied"]),
            empty["emptied_by"].astype(np.int64),
            store.of_events(empty["emptied"], empty["emptied_by"]),
            _calls(empty["made_call"], empty["made"]),
            empty["made_by"].astype(np.int64),
            store.of_events(empty["made"], empty["made_by"]),
        ]
    )
    kinds, which = np.unique(keys, axis=1, return_inverse=True)
    count = kinds.shape[1]
    known = empty["emptied"] > 0
    ages = np.where(known, np.maximum(end_ns - empty["emptied"], 0), 0)
    pages = np.bincount(which.ravel(), minlength=count).tolist()
    seconds = np.bincount(which.ravel(), weights=ages / NS, minlength=count).tolist()
    shown = _Shown(store)
    groups: dict[_Key, tuple[int, float]] = {}
    order = sorted(range(count), key=lambda each: (-pages[each], kinds[:, each].tolist()))
    for each in order:
        emptied, by, stack, made, made_by, made_stack = kinds[:, each].tolist()
        key = (
            _name(emptied),
            thread_name(by, threads),
            shown.stack(stack),
            _name(made),
            thread_name(made_by, threads),
            shown.stack(made_stack),
        )
        before = groups.get(key, (0, 0.0))
        groups[key] = before[0] + pages[each], before[1] + seconds[each]
    found = [StackGroup(*key, number, round(time, 3)) for key, (number, time) in groups.items()]
    found.sort(key=lambda group: -group.pte_pages)
    return StackReport(store.totals, shown.frames, shown.stacks, found)
