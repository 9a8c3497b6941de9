# SPDX-License-Identifier: GPL-2.0-only
"""Which pages wait, since when, and the runs of adjacent pages that wait.

Every operation takes logarithmic time, whatever the length of the runs: a process that frees
in small pieces makes runs of hundreds of thousands of pages.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shadow.table.compiled import compiled, inlined, signed
from shadow.whatif.bit_tree import BitTree, add, first_from, full_bit_tree, last_until, remove
from shadow.whatif.purge_index import Numbers

__all__ = (
    "FreeRuns",
    "divide",
    "end_of_run",
    "first_of_run",
    "freed_at",
    "new_free_runs",
    "newest",
    "set_freed",
)


class FreeRuns(NamedTuple):
    """The pages that a process purges in its history, by number."""

    address: Numbers
    """(pages,) the address of each page"""
    barrier: npt.NDArray[np.bool_]
    """(pages,) whether a run cannot extend over the beginning of this page: a mapping begins
    here, or the page before is not adjacent"""
    latest: Numbers
    """(2 n,) a tree of maxima: at n + page when that page began to wait, ns (0: it does not);
    at i the later of 2 i and 2 i + 1"""
    starts: BitTree
    """the pages that do not continue the run of the page before, and the number of pages"""


def new_free_runs(address: Numbers, page: int) -> FreeRuns:
    """No page waits; `address` is that of each page, `page` its size."""
    pages = len(address)
    leaves = 1 << max(pages - 1, 0).bit_length()
    return FreeRuns(
        address,
        np.diff(address, prepend=0) != page,
        np.zeros(2 * leaves, np.int64),
        full_bit_tree(pages + 1),
    )


@inlined
def freed_at(r: FreeRuns, page: int) -> int:
    """When the page began to wait, ns; 0: it does not wait."""
    return signed(r.latest[(len(r.latest) >> 1) + page])


@inlined
def first_of_run(r: FreeRuns, page: int) -> int:
    """The first page of the run with this page, which waits."""
    return last_until(r.starts, page)


@inlined
def end_of_run(r: FreeRuns, page: int) -> int:
    """The page after the run with this page, which waits."""
    return first_from(r.starts, page + 1)


@compiled
def _join(r: FreeRuns, page: int) -> None:
    """Note whether `page` continues the run of the page before it."""
    if (
        page < len(r.address)
        and page > 0
        and freed_at(r, page)
        and freed_at(r, page - 1)
        and not r.barrier[page]
    ):
        remove(r.starts, page)
    else:
        add(r.starts, page)


@compiled
def set_freed(r: FreeRuns, page: int, time: int) -> None:
    """Let a page wait since `time`; 0: let it wait no longer."""
    at = (len(r.latest) >> 1) + page
    changes = (r.latest[at] == 0) != (time == 0)
    r.latest[at] = time
    while at > 1:
        at >>= 1
        latest = max(r.latest[2 * at], r.latest[2 * at + 1])
        if r.latest[at] == latest:
            break
        r.latest[at] = latest
    if changes:
        _join(r, page)
        _join(r, page + 1)


@compiled
def divide(r: FreeRuns, page: int) -> None:
    """Let no run extend from the page before to this one any more."""
    r.barrier[page] = True
    add(r.starts, page)


@compiled
def newest(r: FreeRuns, low: int, high: int) -> int:
    """When the last of the pages [low, high) began to wait, ns."""
    leaves = len(r.latest) >> 1
    low, high, latest = low + leaves, high + leaves, 0
    while low < high:
        if low & 1:
            latest = max(latest, r.latest[low])
            low += 1
        if high & 1:
            high -= 1
            latest = max(latest, r.latest[high])
        low >>= 1
        high >>= 1
    return latest
