# SPDX-License-Identifier: GPL-2.0-only
"""Selections from the arrays of an address space."""

from typing import Any

import numpy as np
import numpy.typing as npt

from shadow.table.counters import Counter
from shadow.table.state import State

__all__ = ("huge_pages", "pte_pages", "upper_bases")


def pte_pages(s: State, policy: int) -> npt.NDArray[Any]:
    """(n,) of `record_type`: the records with a PTE page under a policy, unordered."""
    return s.records[(s.records["live"] >> policy) & 1 != 0]


def huge_pages(s: State) -> npt.NDArray[Any]:
    """(n,) of `record_type`: the leaf PMDs, ascending."""
    huge = s.records[s.records["huge"] != 0]
    return huge[np.argsort(huge["slot"])]


def upper_bases(s: State, level: int) -> npt.NDArray[np.int64]:
    """(n,) first addresses of the running kernel's tables of this level; PMD is 2."""
    tables, bases = np.zeros(1, np.int64), np.zeros(1, np.int64)
    for above in range(int(s.counters[Counter.LEVELS]), level, -1):
        children = s.upper["child"][tables]
        rows, columns = np.nonzero(children)
        tables = children[rows, columns]
        bases = bases[rows] + (columns << (s.page_shift + s.entry_bits * (above - 1)))
    return bases[s.upper["real"][tables] == 1]
