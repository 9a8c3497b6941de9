# SPDX-License-Identifier: GPL-2.0-only
"""Runs of waiting pages, against a list that is searched page by page."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shadow.whatif import free_runs
from shadow.whatif.free_runs import new_free_runs
from tests.shadow.dispatched import dispatched
from tests.x86_64 import PAGE

divide, newest = dispatched(free_runs.divide), dispatched(free_runs.newest)
first_of_run, end_of_run = dispatched(free_runs.first_of_run), dispatched(free_runs.end_of_run)
set_freed = dispatched(free_runs.set_freed)

_STEPS = st.lists(st.tuples(st.integers(0, 4200), st.integers(-1, 3)), max_size=120)


def _addresses(gaps: set[int], pages: int) -> list[int]:
    """Pages in a row, but for a gap before each of `gaps`."""
    return [PAGE * (page + sum(gap <= page for gap in gaps)) for page in range(pages)]


@given(st.sampled_from([1, 63, 64, 65, 200, 4200]), st.sets(st.integers(0, 250)), _STEPS)
def test_runs_equal_those_of_a_search(
    pages: int, gaps: set[int], steps: list[tuple[int, int]]
) -> None:
    """A step lets a page wait (1 to 3), lets it wait no longer (0), or begins a mapping (-1)."""
    address = _addresses(gaps, pages)
    runs = new_free_runs(np.array(address, np.int64), PAGE)
    freed, barrier = [0] * pages, [False] * pages

    def joined(page: int) -> bool:
        adjacent = address[page] - address[page - 1] == PAGE and not barrier[page]
        return bool(freed[page] and freed[page - 1] and adjacent)

    for at, (place, change) in enumerate(steps):
        first = place % pages
        if change < 0:
            divide(runs, first)
            barrier[first] = True
            continue
        for page in range(first, min(first + 3, pages)):
            freed[page] = at * 10 + change if change else 0
            set_freed(runs, page, freed[page])
        for page in range(max(first - 4, 0), min(first + 8, pages)):
            if not freed[page]:
                continue
            low, high = page, page + 1
            while low and joined(low):
                low -= 1
            while high < pages and joined(high):
                high += 1
            assert (first_of_run(runs, page), end_of_run(runs, page)) == (low, high)
            assert newest(runs, low, high) == max(freed[low:high])
