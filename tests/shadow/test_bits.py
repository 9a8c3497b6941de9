# SPDX-License-Identifier: GPL-2.0-only
"""The 512-bit maps behave like Python sets."""

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from shadow.table import bits
from tests.shadow.dispatched import dispatched

clear_range, copy_range = dispatched(bits.clear_range), dispatched(bits.copy_range)
count_range, is_set = dispatched(bits.count_range), dispatched(bits.is_set)
set_range = dispatched(bits.set_range)

_RANGES = st.tuples(st.integers(0, 512), st.integers(0, 512)).map(sorted)
_ENTRIES = st.sets(st.integers(0, 511))


def _row(entries: set[int]) -> npt.NDArray[np.uint64]:
    row = np.zeros(8, np.uint64)
    for entry in entries:
        row[entry // 64] |= np.uint64(1 << entry % 64)
    return row


def _entries(row: npt.NDArray[np.uint64]) -> set[int]:
    return {entry for entry in range(512) if is_set(row, entry)}


@given(_ENTRIES, _RANGES)
def test_set_clear_and_count_a_range(entries: set[int], bounds: list[int]) -> None:
    span = set(range(*bounds))
    row = _row(entries)
    assert count_range(row, *bounds) == len(entries & span)
    assert set_range(row, *bounds) == len(span - entries)
    assert _entries(row) == entries | span
    assert clear_range(row, *bounds) == len(span)
    assert _entries(row) == entries - span


@given(_ENTRIES, _ENTRIES, _RANGES)
def test_copy_takes_only_what_the_source_has(
    entries: set[int], source: set[int], bounds: list[int]
) -> None:
    row, wanted = _row(entries), source & set(range(*bounds))
    assert copy_range(row, _row(source), *bounds) == len(wanted - entries)
    assert _entries(row) == entries | wanted
