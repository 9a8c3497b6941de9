# SPDX-License-Identifier: GPL-2.0-only
"""The two ways of reading pagemap, on a mapping of the test process."""

import ctypes
import mmap
import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from shadow.geometry import X86_64
from shadow.table.vma import VMA, VmaFlag
from tests.x86_64 import PAGE, SLOT
from tracer.process.pagemap import Runs, read_runs

_PAGES = 3 * SLOT // PAGE
_TOUCHED = [0, 1, 5, 511, 512, 513, 1000, _PAGES - 1]


@pytest.fixture
def area() -> Iterator[int]:
    """First address of a mapping with some touched pages."""
    with mmap.mmap(-1, 3 * SLOT, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mapping:
        mapping.madvise(mmap.MADV_NOHUGEPAGE)
        for page in _TOUCHED:
            mapping[page * PAGE] = 1
        view = ctypes.c_char.from_buffer(mapping)
        yield ctypes.addressof(view)
        del view


def _pages(runs: Runs, start: int) -> list[int]:
    found = [
        (address - start) // PAGE
        for first, last in zip(runs.start.tolist(), runs.end.tolist(), strict=True)
        for address in range(first, last, PAGE)
    ]
    return [page for page in found if 0 <= page < _PAGES]


def _vma(start: int, flags: int = VmaFlag.READ | VmaFlag.WRITE) -> npt.NDArray[np.void]:
    return np.array([(start, start + 3 * SLOT, flags, 0, 0, 0)], VMA)


@pytest.mark.parametrize("scan", [True, False])
def test_finds_exactly_the_touched_pages(area: int, scan: bool) -> None:
    runs = read_runs(os.getpid(), _vma(area), X86_64.user_bytes, scan=scan)
    assert _pages(runs, area) == _TOUCHED


def test_finds_no_region_twice(area: int) -> None:
    for page in range(0, _PAGES, 2):
        ctypes.c_char.from_address(area + page * PAGE).value = b"x"
    runs = read_runs(os.getpid(), _vma(area), X86_64.user_bytes)
    assert len(runs.start) > 512
    assert (runs.start[1:] >= runs.end[:-1]).all()


def test_leaves_out_hugetlb(area: int) -> None:
    runs = read_runs(os.getpid(), _vma(area, VmaFlag.HUGETLB), X86_64.user_bytes)
    assert _pages(runs, area) == []
