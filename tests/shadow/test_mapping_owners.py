# SPDX-License-Identifier: GPL-2.0-only
"""Kinds and names of mappings."""

import numpy as np

from shadow.mapping_names import FileName, MappingKind, MappingNames
from shadow.mapping_owners import Owner, owners_of
from shadow.table.vma import VMA, LabelPart, VmaFlag
from tests.x86_64 import PAGE

_R, _RW, _RX = VmaFlag.READ, VmaFlag.READ | VmaFlag.WRITE, VmaFlag.READ | VmaFlag.EXEC
_NONE = 0
_MIB, _GIB = 1 << 20, 1 << 30
_BASE = 0x7F00_0000_0000


def _owned(
    *rows: tuple[int, int, int, int], names: MappingNames | None = None, brk: int = 0
) -> list[Owner]:
    """The owner of each mapping, from rows of start, end, flags and file."""
    vmas = np.array([(*row, row[0] // PAGE, 0) for row in rows], VMA)
    owners, of = owners_of(vmas, names or MappingNames(), brk)
    return [owners[number] for number in of.tolist()]


def _kinds(*rows: tuple[int, int, int, int]) -> list[str]:
    return [owner.kind for owner in _owned(*rows)]


def test_files_keep_the_kind_that_was_read_and_two_opens_are_one_file() -> None:
    shm = FileName(MappingKind.POSIX_SHM, "/dev/shm/x", "0:25", 7)
    names = MappingNames({5: shm, 6: shm, 9: FileName(MappingKind.MEMFD, "/memfd:a (deleted)")})
    owned = _owned(
        (_BASE, _BASE + PAGE, _RW, 5),
        (_BASE + PAGE, _BASE + 2 * PAGE, _RW, 6),
        (_BASE + 2 * PAGE, _BASE + 3 * PAGE, _RW, 9),
        (_BASE + 3 * PAGE, _BASE + 4 * PAGE, _RW, 10),
        (_BASE + 4 * PAGE, _BASE + 5 * PAGE, _RW | VmaFlag.HUGETLB, 9),
        names=names,
    )
    assert owned[0] == owned[1] == Owner(MappingKind.POSIX_SHM, "/dev/shm/x", "0:25", 7)
    assert [owner.kind for owner in owned[2:]] == ["memfd", "other", "hugetlb"]


def test_the_heap_is_memory_from_brk() -> None:
    at = 0x5555_0000_0000
    rows = ((at, at + _MIB, _RW, 0), (at + 2 * _MIB, at + 3 * _MIB, _RW, 0))
    heap, other = _owned(*rows, names=MappingNames(heap=at), brk=at + _MIB)
    assert (heap.kind, other.kind) == ("heap", "anonymous")
    heap, other = _owned(*rows, brk=at + _MIB)
    assert (heap.kind, other.kind) == ("anonymous", "anonymous")


def test_named_memory_and_code() -> None:
    label = 77 << LabelPart.NAME
    owned = _owned(
        (_BASE, _BASE + PAGE, _RW | label, 0),
        (_BASE + _MIB, _BASE + _MIB + PAGE, _RW | 78 << LabelPart.NAME, 0),
        (_BASE + 2 * _MIB, _BASE + 2 * _MIB + PAGE, _RX, 0),
        (_BASE + 3 * _MIB, _BASE + 3 * _MIB + PAGE, _RW | VmaFlag.SHARED, 0),
        names=MappingNames(labels={77: "[anon:x]"}),
    )
    assert owned == [
        Owner(MappingKind.NAMED, "[anon:x]"),
        Owner(MappingKind.NAMED, None),
        Owner(MappingKind.JIT),
        Owner(MappingKind.SHARED_ANONYMOUS),
    ]


def test_heaps_of_glibc_arenas_are_recognised_by_their_layout() -> None:
    arena = 64 * _MIB
    assert (
        _kinds(
            (_BASE, _BASE + 5 * PAGE, _RW, 0),
            (_BASE + 5 * PAGE, _BASE + arena, _NONE, 0),
            (_BASE + arena, _BASE + arena + PAGE, _RW, 0),
            (_BASE + arena + PAGE, _BASE + 2 * arena, _NONE, 0),
        )
        == ["allocator"] * 4
    )
    # Not aligned to 64 MiB; no reservation behind it; a reservation of another size.
    for rows in (
        ((_BASE + PAGE, _BASE + 5 * PAGE, _RW, 0), (_BASE + 5 * PAGE, _BASE + arena, _NONE, 0)),
        ((_BASE, _BASE + 5 * PAGE, _RW, 0), (_BASE + 6 * PAGE, _BASE + arena, _NONE, 0)),
        ((_BASE, _BASE + 5 * PAGE, _RW, 0), (_BASE + 5 * PAGE, _BASE + 2 * arena, _NONE, 0)),
    ):
        assert _kinds(*rows) == ["anonymous"] * 2


def test_adjacent_arenas_are_no_reservation() -> None:
    arena, rows = 64 * _MIB, []
    for number in range(20):
        at = _BASE + number * arena
        rows += [(at, at + PAGE, _RW, 0), (at + PAGE, at + arena, _NONE, 0)]
    assert set(_kinds(*rows)) == {"allocator"}


def test_a_large_run_that_is_mostly_inaccessible_is_a_reservation() -> None:
    open_, end = _BASE + _MIB, _BASE + 4 * _GIB
    assert _kinds(
        (_BASE, open_, _RW, 0),
        (open_, end, _NONE, 0),
        (end, end + PAGE, _RX, 0),
        (end + 2 * PAGE, end + 3 * PAGE, _RW, 0),
    ) == ["reservation", "reservation", "jit", "anonymous"]
    # Below 1 GiB, mostly accessible, or not adjacent.
    assert _kinds((_BASE, open_, _RW, 0), (open_, _BASE + _GIB // 2, _NONE, 0)) == ["anonymous"] * 2
    assert _kinds((_BASE, end, _RW, 0), (end, end + _GIB, _NONE, 0)) == ["anonymous"] * 2
    apart = _kinds((_BASE, open_, _RW, 0), (open_ + PAGE, end, _NONE, 0))
    assert apart == ["anonymous", "reservation"]


def test_the_shadow_of_asan_is_recognised_by_its_borders() -> None:
    """The mappings are those of libasan in gcc 12."""
    low, gap, high, end = 0x7FFF_7000, 0x8FFF_7000, 0x2008_FFF7_000, 0x1000_7FFF_8000
    shadow = ((low, gap, _RW, 0), (gap, high, _NONE, 0), (high, end, _RW, 0))
    heap = (0x6030_0000_0000, 0x6030_0001_0000, _RW, 0)
    owned = _owned(*shadow, heap)
    assert [owner.name for owner in owned] == [
        "ASan shadow",
        "ASan shadow gap",
        "ASan shadow",
        "ASan heap",
    ]
    assert {owner.kind for owner in owned[:3]} == {MappingKind.SANITIZER}
    # Without the gap, the mappings belong to another program.
    assert all(owner.name is None for owner in _owned(shadow[0], shadow[2], heap))
