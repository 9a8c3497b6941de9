# SPDX-License-Identifier: GPL-2.0-only
"""Decoding of synthetic page-table entries."""

import numpy as np

from tracer.census.decode import (
    ENTRY_KINDS,
    entry_kinds,
    frames,
    guard_maps,
    is_leaf,
    is_table,
    present_maps,
)

_FRAME = 0x1234_5000
_ZERO_PAGE = 0x7000
_PRESENT, _PSE, _PROTNONE = 1, 1 << 7, 1 << 8


def _page(*entries: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
    words = np.zeros((1, 512), np.uint64)
    words[0, : len(entries)] = entries
    return words


def test_each_type_of_entry_is_recognised() -> None:
    words = _page(
        _FRAME | _PRESENT,
        _FRAME | _PROTNONE,
        _ZERO_PAGE | _PRESENT,
        0,
        3 << 59 | 0x1000,  # the fourth swap file
        29 << 59 | 0x1000,  # migration, device-private or poison
        31 << 59 | 1 << 14,  # a marker
    )
    (kinds,) = entry_kinds(words, _ZERO_PAGE)
    assert dict(zip(ENTRY_KINDS, kinds.tolist(), strict=True)) == {
        "present": 3,
        "swap": 1,
        "migration": 1,
        "marker": 1,
        "zero_page": 1,
    }


def test_the_map_has_a_bit_for_each_entry_that_is_not_none() -> None:
    words = np.zeros((2, 512), np.uint64)
    words[0, [0, 63, 64, 511]] = 1
    maps = present_maps(words)
    assert maps.shape == (2, 8)
    assert [int(word) for word in maps[0]] == [1 | 1 << 63, 1, 0, 0, 0, 0, 0, 1 << 63]
    assert not maps[1].any()


def test_upper_entries_are_tables_leaves_or_none() -> None:
    words = np.array(
        [0, _FRAME | _PRESENT, _FRAME | _PRESENT | _PSE, _FRAME | _PSE, 28 << 59 | 0x1000],
        np.uint64,
    )
    assert is_table(words).tolist() == [False, True, False, False, False]
    assert is_leaf(words).tolist() == [False, False, True, True, True]


def test_a_frame_has_neither_flags_nor_protection_key() -> None:
    words = np.array([1 << 63 | 0xF << 59 | _FRAME | 0xFFF], np.uint64)
    assert frames(words).tolist() == [_FRAME]


def test_guard_markers_are_distinguished_from_other_markers() -> None:
    def marker(bits: int) -> int:
        return 31 << 59 | ~(bits << 9) & (1 << 59) - 1 & ~0x1FF

    words = _page(marker(1), marker(2), marker(4), 30 << 59 | marker(4) & (1 << 59) - 1, _PRESENT)
    assert np.flatnonzero(guard_maps(words)[0]).tolist() == [2]
