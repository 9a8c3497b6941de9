# SPDX-License-Identifier: GPL-2.0-only
"""Decoding of synthetic page-table entries."""

from collections.abc import Callable

import numpy as np
import pytest

from tracer.census.arm64 import Arm64Entries
from tracer.census.entries import (
    ENTRY_KINDS,
    EntryFormat,
    entry_kinds,
    guard_maps,
    is_leaf,
    present_maps,
)
from tracer.census.x86_64 import X86Entries

_FRAME = 0x1234_5000
_ZERO_PAGE = 0x7000
_PRESENT, _PSE, _PROTNONE = 1, 1 << 7, 1 << 8
_X86 = X86Entries(4096)


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
    (kinds,) = entry_kinds(words, present_maps(words), _ZERO_PAGE, _X86)
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
    assert _X86.is_table(words).tolist() == [False, True, False, False, False]
    assert is_leaf(words, _X86).tolist() == [False, False, True, True, True]


def test_a_frame_has_neither_flags_nor_protection_key() -> None:
    words = np.array([1 << 63 | 0xF << 59 | _FRAME | 0xFFF], np.uint64)
    assert _X86.frames(words).tolist() == [_FRAME]


def test_guard_markers_are_distinguished_from_other_markers() -> None:
    def marker(bits: int) -> int:
        return 31 << 59 | ~(bits << 9) & (1 << 59) - 1 & ~0x1FF

    words = _page(marker(1), marker(2), marker(4), 30 << 59 | marker(4) & (1 << 59) - 1, _PRESENT)
    assert np.flatnonzero(guard_maps(words, _X86)[0]).tolist() == [2]


_OLD, _NEW = 1 << 58 | 1 << 11 | 0x400, 1 << 11 | 0x400
"""Entries of inaccessible pages before v6.10 and since then."""
_PAGES = pytest.mark.parametrize("page", [1 << 12, 1 << 14, 1 << 16])


def _arm64(page: int, inaccessible: int) -> EntryFormat:
    form = Arm64Entries(page)
    form.learn(inaccessible | page)
    return form


def _old_swap(kind: int, offset: int) -> int:
    return kind << 3 | offset << 8


def _new_swap(kind: int, offset: int) -> int:
    return kind << 6 | offset << 12


@_PAGES
@pytest.mark.parametrize(
    ("inaccessible", "swap"), [(_OLD, _old_swap), (_NEW, _new_swap)], ids=["6.1", "6.12"]
)
def test_entries_of_arm64_are_recognised(
    page: int, inaccessible: int, swap: Callable[[int, int], int]
) -> None:
    frame, zero_page, contiguous = 5 * page, 9 * page, 1 << 52
    words = np.zeros((1, page // 8), np.uint64)
    words[0, :9] = (
        frame | 0xF43,  # valid, a page
        frame | contiguous | 1 << 54 | 0xF43,
        frame | inaccessible,
        zero_page | 0xFC3,
        swap(0, 1 << 3),  # with bit 11, which marks PROT_NONE only since v6.10
        swap(22, 7) | 1 << 2,  # exclusive
        swap(29, 1 << 30),  # migration, device-private or poison
        swap(31, 1),  # a marker of userfaultfd
        swap(31, 4),  # a guard
    )
    form = _arm64(page, inaccessible)
    (kinds,) = entry_kinds(words, present_maps(words), zero_page, form)
    assert dict(zip(ENTRY_KINDS, kinds.tolist(), strict=True)) == {
        "present": 4,
        "swap": 2,
        "migration": 1,
        "marker": 2,
        "zero_page": 1,
    }
    assert np.flatnonzero(guard_maps(words, form)[0]).tolist() == [8]


@_PAGES
def test_upper_entries_of_arm64_are_tables_blocks_or_none(page: int) -> None:
    form = _arm64(page, _NEW)
    table, block = 7 * page | 3, 16 * page | 0x60000000000F41
    words = np.array([0, table, block, block & ~1 | 1 << 11, _new_swap(30, 5)], np.uint64)
    assert form.is_table(words).tolist() == [False, True, False, False, False]
    assert is_leaf(words, form).tolist() == [False, False, True, True, True]
    assert form.frames(words[1:2]).tolist() == [7 * page]


def test_long_addresses_of_64_kib_pages_are_put_together() -> None:
    words = np.array([0x1234_5678_0000 | 0xA000 | 3], np.uint64)
    assert _arm64(1 << 16, _NEW).frames(words).tolist() == [0xA_1234_5678_0000]
    assert _arm64(1 << 12, _NEW).frames(words).tolist() == [0x1234_5678_A000]
