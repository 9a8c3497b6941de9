# SPDX-License-Identifier: GPL-2.0-only
"""Single behaviours of the compiled table, by name."""

import numpy as np
import pytest

from shadow.events import EVENT, PARTLY, Kind
from shadow.policy import Policy
from shadow.table.counters import Counter
from shadow.table.state import HUGE_ANON, HugePages
from shadow.table.table import Table
from tests.shadow.build import BASE, PAGE, SLOT, EventScript


def _table(running: Policy = Policy.PT_RECLAIM) -> Table:
    return Table(running=running)


def _pages(table: Table, policy: Policy) -> int:
    return table.counter(Counter.TABLES + policy)


@pytest.mark.parametrize(
    ("policy", "purge", "left"),
    [
        (Policy.NONE, SLOT, 32),
        (Policy.PT_RECLAIM, SLOT, 0),
        (Policy.PT_RECLAIM, SLOT // 2, 32),
        (Policy.DONTNEED_ZERO, SLOT, 0),
        (Policy.DONTNEED_ZERO, SLOT // 2, 0),
        (Policy.DONTNEED_ZERO, PAGE * 16, 0),
        (Policy.PTE_REF, SLOT // 2, 0),
        (Policy.PTE_REF, PAGE * 16, 0),
    ],
)
def test_purges_of_one_size(policy: Policy, purge: int, left: int) -> None:
    """Semantics D1, 9: the PTE pages that remain after 64 MiB are purged in pieces."""
    history = EventScript().map(BASE, 32 * SLOT).touch(BASE, 32 * SLOT, SLOT // 4)
    for start in range(BASE, BASE + 32 * SLOT, purge):
        history.dontneed(start, purge)
    table = _table()
    table.feed(history.batch())
    assert _pages(table, policy) == left
    assert table.counter(Counter.EMPTY + policy) == left


def test_a_slot_of_two_vmas_is_not_reclaimed_by_one_call() -> None:
    """Semantics D1, 12."""
    table = _table()
    history = EventScript().map(BASE, SLOT).touch(BASE, SLOT)
    history.add(Kind.PROTECT, BASE + SLOT // 2, SLOT // 2, 1).dontneed(BASE, SLOT)
    table.feed(history.batch())
    assert table.empty_slots().tolist() == [BASE]
    table.feed(EventScript().add(Kind.PROTECT, BASE, SLOT, 3).dontneed(BASE, SLOT).batch())
    assert table.empty_slots().tolist() == []


def test_munmap_beside_a_neighbour_leaves_an_empty_pte_page() -> None:
    """Semantics D3, 27; the PTE pages and the upper tables go with the last VMA."""
    table = _table()
    history = EventScript().map(BASE, SLOT).touch(BASE + SLOT // 2, SLOT // 2)
    table.feed(history.unmap(BASE + SLOT // 2, SLOT // 2).batch())
    assert table.empty_slots().tolist() == [BASE]
    table.feed(EventScript().unmap(BASE, SLOT // 2).batch())
    assert _pages(table, Policy.PT_RECLAIM) == 0
    assert table.counter(Counter.PMD_PAGES) == table.counter(Counter.PUD_PAGES) == 0


def test_a_mapping_proves_that_an_entered_munmap_has_happened() -> None:
    """Thread 1 is in munmap; thread 2 maps and uses the range before thread 1 returns."""
    table = _table()
    history = EventScript().map(BASE, SLOT).touch(BASE, SLOT)
    history.add(Kind.UNMAP_BEGIN, BASE, SLOT, tid=1).map(BASE, SLOT).touch(BASE, 3 * PAGE)
    table.feed(history.add(Kind.UNMAP, BASE, SLOT, tid=1).batch())
    assert table.counter(Counter.REFS) == 3


def test_a_failed_munmap_changes_nothing() -> None:
    table = _table()
    history = EventScript().map(BASE, SLOT).touch(BASE, SLOT)
    history.add(Kind.UNMAP_BEGIN, BASE, SLOT).add(Kind.UNMAP, BASE, 0).map(BASE + SLOT, SLOT)
    table.feed(history.batch())
    assert table.counter(Counter.REFS) == 512


def test_mremap_of_a_whole_slot_takes_the_pte_page_along() -> None:
    """Semantics D3, 33 and 64: also an empty one."""
    table = _table()
    history = EventScript().map(BASE, SLOT).touch(BASE, PAGE).dontneed(BASE, PAGE)
    table.feed(history.remap(BASE, SLOT, BASE + 8 * SLOT, SLOT, 3).batch())
    assert table.empty_slots().tolist() == [BASE + 8 * SLOT]


def test_mprotect_that_fails_at_a_hole_has_changed_what_lies_before() -> None:
    table = _table()
    history = EventScript().map(BASE, SLOT).unmap(BASE + SLOT // 2, SLOT // 4)
    history.add(Kind.PROTECT, BASE, SLOT, PARTLY).touch(BASE, PAGE)
    table.feed(history.touch(BASE + SLOT - PAGE, PAGE).batch())
    assert table.counter(Counter.REFS) == 1
    assert table.counter(Counter.NO_EFFECT) == 1


def test_a_huge_fault_keeps_a_deposit_and_its_split_uses_it() -> None:
    """Semantics D5, 50 and 51."""
    table = Table(running=Policy.PT_RECLAIM, huge=HugePages(thp=2))
    table.feed(EventScript().map(BASE, SLOT).touch(BASE, PAGE).batch())
    assert table.counter(Counter.DEPOSITS) == 1
    assert _pages(table, Policy.PT_RECLAIM) == 0
    table.feed(EventScript().dontneed(BASE, PAGE).batch())
    assert table.counter(Counter.DEPOSITS) == 0
    assert table.counter(Counter.REFS) == 511


def test_a_first_write_maps_the_largest_folio_that_fits() -> None:
    """64 KiB and 32 KiB are allowed; reads map the page of zeroes, one page."""
    table = Table(huge=HugePages(always=16 | 8))
    history = EventScript().map(BASE, 40 * PAGE).touch(BASE + 17 * PAGE, PAGE)
    table.feed(history.touch(BASE + 39 * PAGE, PAGE).batch())
    assert table.counter(Counter.REFS) == 16 + 8
    table.feed(EventScript().add(Kind.FAULT, BASE, 0, 4).touch(BASE + 9 * PAGE, PAGE).batch())
    assert table.counter(Counter.REFS) == 16 + 8 + 1 + 8


def test_an_empty_pte_page_blocks_the_huge_fault() -> None:
    """Semantics D5, 55."""
    table = Table(running=Policy.PT_RECLAIM)
    table.feed(EventScript().map(BASE, SLOT).touch(BASE, PAGE).dontneed(BASE, PAGE).batch())
    table.state.counters[Counter.THP] = 2
    table.feed(EventScript().touch(BASE, PAGE).batch())
    assert table.counter(Counter.DEPOSITS) == 0
    assert table.counter(Counter.REFS) == 1


def test_a_seed_makes_pte_pages_of_runs_and_deposits_of_huge_ones() -> None:
    table = _table()
    starts = np.array([BASE + SLOT - PAGE, BASE + 4 * SLOT])
    ends = np.array([BASE + SLOT + PAGE, BASE + 6 * SLOT])
    table.adopt(Table.of_runs(starts, ends, np.array([0, HUGE_ANON], np.uint8)).pages(), 1)
    assert _pages(table, Policy.PT_RECLAIM) == 2
    assert table.counter(Counter.REFS) == 2
    assert table.counter(Counter.DEPOSITS) == 2


def test_exec_forgets_the_address_space_and_keeps_what_was_counted() -> None:
    table = _table()
    table.feed(EventScript().map(BASE, SLOT).touch(BASE, SLOT).dontneed(BASE, SLOT).batch())
    table.feed(EventScript().add(Kind.EXEC).batch())
    assert _pages(table, Policy.NONE) == 0
    assert table.counter(Counter.FREED + Policy.PT_RECLAIM) == 1
    assert table.counter(Counter.EVENTS + Kind.FAULT) == 512


def test_the_mean_is_over_time() -> None:
    """One PTE page for 3 us, then none for 1 us."""
    rows = [
        (1000, BASE, SLOT, 1, 1, Kind.MAP, 0, 0x22 << 8 | 3),
        (2000, BASE, 0, 1, 1, Kind.FAULT, 0, 6),
        (5000, BASE, SLOT, 1, 1, Kind.DONTNEED, 0, 4),
        (6000, BASE, 0, 1, 1, Kind.LOSS, 0, 0),
    ]
    table = _table()
    table.feed(np.array(rows, EVENT))
    assert table.state.area.tolist() == [4000.0, 3000.0, 3000.0, 3000.0, 5000.0]


def test_arrays_grow_with_what_is_populated_not_with_what_is_spanned() -> None:
    """A PTE page in each of 5,000 GiB, 5 TiB of address space."""
    table = _table()
    history = EventScript().map(BASE, 5000 << 30).touch(BASE, 5000 << 30, 1 << 30)
    table.feed(history.batch())
    assert _pages(table, Policy.PT_RECLAIM) == 5000
    assert table.counter(Counter.PMD_PAGES) == 5000
    table.feed(EventScript().unmap(BASE, 5000 << 30).batch())
    assert table.counter(Counter.PMD_PAGES) == table.counter(Counter.PUD_PAGES) == 0


def test_a_dense_pte_page_costs_at_most_256_bytes() -> None:
    table = _table()
    span = 100_000 * SLOT
    starts = np.arange(BASE, BASE + span, SLOT, dtype=np.int64)
    runs = Table.of_runs(starts, starts + PAGE, np.zeros(len(starts), np.uint8))
    table.adopt(runs.pages(), 1)
    assert table.nbytes() <= 256 * 100_000
