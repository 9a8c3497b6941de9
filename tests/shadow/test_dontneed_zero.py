# SPDX-License-Identifier: GPL-2.0-only
"""The policy dontneed_zero, by name: which calls free a PTE page, and which do not."""

import mmap

import pytest

from shadow.events import FILE_TRUNCATED, Kind
from shadow.policy import Policy
from shadow.table.counters import Counter
from shadow.table.state import HUGE_ANON, HugePages
from shadow.table.table import Table
from shadow.uapi import MADV_DONTNEED_LOCKED
from tests.shadow.build import BASE, PAGE, SLOT, EventScript, pages_read

_ZERO = Policy.DONTNEED_ZERO
_GUARD_INSTALL, _HUGEPAGE = 102, 14
_PARTS = (PAGE, 16 * PAGE, SLOT // 2, SLOT)


def _table(history: EventScript, running: Policy = _ZERO) -> Table:
    table = Table(running=running)
    table.feed(history.batch())
    return table


def _pages(table: Table) -> int:
    return table.counter(Counter.TABLES + _ZERO)


def _outcome(table: Table) -> tuple[int, int, int]:
    """PTE pages, freed ones, and looks."""
    return (
        _pages(table),
        table.counter(Counter.FREED + _ZERO),
        table.counter(Counter.ATTEMPTS + _ZERO),
    )


@pytest.mark.parametrize("flags", [mmap.MAP_PRIVATE, mmap.MAP_SHARED])
@pytest.mark.parametrize("part", _PARTS)
def test_the_last_part_frees_and_each_part_looks(part: int, flags: int) -> None:
    history = EventScript().map(BASE, SLOT, flags=flags).touch(BASE, SLOT)
    parts = range(BASE, BASE + SLOT, part)
    for start in parts:
        history.dontneed(start, part)
    assert _outcome(_table(history)) == (0, 1, len(parts))


def test_one_entry_elsewhere_keeps_the_pte_page() -> None:
    history = EventScript().map(BASE, SLOT).touch(BASE, SLOT).dontneed(BASE + PAGE, SLOT - PAGE)
    assert _outcome(_table(history)) == (1, 0, 1)


def test_a_call_over_an_empty_pte_page_frees_it_whatever_it_covers() -> None:
    """FREE and reclaim, or a truncation, leave a PTE page that any later DONTNEED finds empty."""
    history = EventScript().map(BASE, SLOT).touch(BASE, PAGE)
    history.add(Kind.TRUNCATE, BASE, SLOT, FILE_TRUNCATED)
    assert _outcome(_table(history)) == (1, 0, 0)
    assert _outcome(_table(history.dontneed(BASE + 9 * PAGE, PAGE))) == (0, 1, 1)


@pytest.mark.parametrize("kind", [Kind.FREE, Kind.TRUNCATE])
def test_other_zaps_do_not_look(kind: Kind) -> None:
    history = EventScript().map(BASE, SLOT).touch(BASE, SLOT)
    assert _outcome(_table(history.add(kind, BASE, SLOT, 0))) == (1, 0, 0)


def test_munmap_of_a_part_does_not_look() -> None:
    history = EventScript().map(BASE, SLOT).touch(BASE, PAGE).unmap(BASE, SLOT // 2)
    assert _outcome(_table(history)) == (1, 0, 0)


def test_a_guard_among_the_entries_prevents_the_look_and_one_beside_makes_it_fail() -> None:
    for over, looks in ((SLOT, 0), (SLOT // 2, 1)):
        history = EventScript().map(BASE, SLOT).touch(BASE, PAGE)
        history.add(Kind.ADVISE, BASE + SLOT - PAGE, PAGE, _GUARD_INSTALL).dontneed(BASE, over)
        assert _outcome(_table(history)) == (1, 0, looks)


def test_a_slot_of_two_mappings_goes_with_the_second_look() -> None:
    history = EventScript().map(BASE, SLOT).touch(BASE, SLOT)
    history.add(Kind.PROTECT, BASE + SLOT // 2, SLOT // 2, 1).dontneed(BASE, SLOT)
    table = _table(history)
    assert _outcome(table) == (0, 1, 2)
    assert table.counter(Counter.TABLES + Policy.PT_RECLAIM) == 1


def test_entries_of_a_neighbouring_mapping_keep_the_pte_page() -> None:
    history = EventScript().map(BASE, SLOT).touch(BASE, SLOT)
    history.add(Kind.PROTECT, BASE + SLOT // 2, SLOT // 2, 1).dontneed(BASE, SLOT // 2)
    assert _outcome(_table(history)) == (1, 0, 1)


def test_a_locked_mapping_ends_the_call_after_the_mappings_before_it() -> None:
    history = EventScript().map(BASE, 2 * SLOT).touch(BASE, 2 * SLOT)
    history.add(Kind.LOCK, BASE + SLOT, SLOT).dontneed(BASE, 2 * SLOT)
    assert _outcome(_table(history)) == (1, 1, 1)
    history.add(Kind.DONTNEED, BASE + SLOT, SLOT // 2, MADV_DONTNEED_LOCKED)
    history.add(Kind.DONTNEED, BASE + SLOT + SLOT // 2, SLOT // 2, MADV_DONTNEED_LOCKED)
    assert _outcome(_table(history)) == (0, 2, 3)


def test_a_part_of_a_huge_page_leaves_a_pte_page_and_the_rest_frees_it() -> None:
    table = Table(running=_ZERO, huge=HugePages(thp=2))
    history = EventScript().map(BASE, SLOT).touch(BASE, PAGE)
    table.feed(history.batch())
    assert table.pages().huge_kind.tolist() == [HUGE_ANON]
    table.feed(EventScript().dontneed(BASE, PAGE).batch())
    assert _outcome(table) == (1, 0, 1)
    table.feed(EventScript().dontneed(BASE + PAGE, SLOT - PAGE).batch())
    assert _outcome(table) == (0, 1, 2)


@pytest.mark.parametrize(
    ("running", "part", "huge"),
    [
        (Policy.NONE, SLOT, False),
        (Policy.PT_RECLAIM, SLOT // 2, False),
        (Policy.PT_RECLAIM, SLOT, True),
        (_ZERO, SLOT // 2, True),
    ],
)
def test_a_fault_is_huge_where_the_running_kernel_kept_no_pte_page(
    running: Policy, part: int, huge: bool
) -> None:
    """Semantics D5, 55; that another policy would have kept one changes nothing."""
    table = Table(running=running, huge=HugePages(thp=1))
    history = EventScript().map(BASE, SLOT).touch(BASE, SLOT)
    for start in range(BASE, BASE + SLOT, part):
        history.dontneed(start, part)
    table.feed(history.add(Kind.ADVISE, BASE, SLOT, _HUGEPAGE).touch(BASE, PAGE).batch())
    assert table.pages().huge.tolist() == ([BASE] if huge else [])
    assert table.counter(Counter.TABLES + running) == (0 if huge else 1)


def test_a_fault_allocates_again_and_counts() -> None:
    history = EventScript().map(BASE, SLOT)
    for _ in range(3):
        history.touch(BASE, PAGE).dontneed(BASE, PAGE)
    table = _table(history)
    assert _outcome(table) == (0, 3, 3)
    assert table.counter(Counter.REALLOCATED + _ZERO) == 2


def test_a_seed_keeps_an_empty_pte_page_because_its_cause_is_unknown() -> None:
    table = Table(running=Policy.PT_RECLAIM)
    table.seed(pages_read(3, 0), 10**9)
    assert _pages(table) == 3
    table.feed(EventScript().dontneed(BASE, PAGE).batch())
    assert _pages(table) == 2
