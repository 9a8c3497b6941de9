# SPDX-License-Identifier: GPL-2.0-only
"""The largest page tables of a process, compared with the RFC's table."""

import pytest

from shadow.geometry import GEOMETRIES, Geometry
from tests.x86_64 import SLOT

_KIB, _MIB, _GIB, _TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
_BY_NAME = {geometry.name: geometry for geometry in GEOMETRIES}


def test_the_table_of_the_rfc() -> None:
    """32 bits with 3 GiB for users, and 64 bits with addresses of 48."""
    small, large = _BY_NAME["x86-32"], _BY_NAME["x86-64, 4 levels"]
    assert small.table_bytes(1, small.user_bytes) == 3 * _MIB
    assert small.table_bytes(2, small.user_bytes) == 3 * _KIB
    assert large.table_bytes(1, large.address_bytes) == 512 * _GIB
    assert large.table_bytes(2, large.address_bytes) == _GIB


@pytest.mark.parametrize(
    ("name", "slot", "pte_pages", "pmd_pages"),
    [
        ("x86-32 PAE", 2 * _MIB, 6 * _MIB, 12 * _KIB),
        ("x86-64, 4 levels", 2 * _MIB, 256 * _GIB, 512 * _MIB),
        ("x86-64, 5 levels", 2 * _MIB, 128 * _TIB, 256 * _GIB),
        ("arm64, 4K pages", 2 * _MIB, 512 * _GIB, _GIB),
        ("arm64, 16K pages", 32 * _MIB, 128 * _GIB, 64 * _MIB),
        ("arm64, 64K pages", 512 * _MIB, 32 * _GIB, 4 * _MIB),
    ],
)
def test_user_space_in_full(name: str, slot: int, pte_pages: int, pmd_pages: int) -> None:
    geometry = _BY_NAME[name]
    assert geometry.slot == slot
    assert geometry.table_bytes(1, geometry.user_bytes) == pte_pages
    assert geometry.table_bytes(2, geometry.user_bytes) == pmd_pages


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: geometry.name)
def test_levels_fit_together(geometry: Geometry) -> None:
    assert geometry.user_bytes <= geometry.address_bytes
    assert geometry.span(1) == 1 << geometry.page_shift
    top = geometry.span(geometry.levels) << geometry.index_bits[-1]
    assert top == geometry.address_bytes
    # Each table below the top fills one page.
    for bits in geometry.index_bits[:-1]:
        assert geometry.entry_bytes << bits == 1 << geometry.page_shift


def test_a_part_of_a_slot_takes_a_whole_pte_page() -> None:
    geometry = _BY_NAME["x86-64, 4 levels"]
    assert geometry.table_bytes(1, 1) == 4096
    assert geometry.table_bytes(1, SLOT + 1) == 2 * 4096
