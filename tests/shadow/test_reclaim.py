# SPDX-License-Identifier: GPL-2.0-only
"""Changes by the kernel itself, from probes on its functions: reclaim, splits, collapses."""

from hypothesis import given
from hypothesis import strategies as st

from shadow.events import DISCARDED, Kind
from shadow.policy import Policy
from shadow.table.counters import Counter
from shadow.table.state import HugePages
from shadow.table.table import Table
from tests.shadow.build import BASE, PAGE, SLOT, EventScript

_SWAPPED = 0


def _huge(*slots: int) -> Table:
    """Memory of four slots, of which these are huge pages."""
    table = Table(running=Policy.PT_RECLAIM, huge=HugePages(thp=2))
    history = EventScript().map(BASE, 4 * SLOT)
    for slot in slots:
        history.touch(BASE + slot * SLOT, PAGE)
    table.feed(history.batch())
    return table


def _now(table: Table) -> tuple[int, int, int]:
    """PTE pages, entries, deposits."""
    pages = table.counter(Counter.TABLES + Policy.PT_RECLAIM)
    return pages, table.counter(Counter.REFS), table.counter(Counter.DEPOSITS)


def test_a_split_gives_a_pte_page_of_512_entries() -> None:
    table = _huge(0, 1)
    assert _now(table) == (0, 0, 2)
    table.feed(EventScript().add(Kind.SPLIT, BASE, SLOT).batch())
    assert _now(table) == (1, 512, 1)


def test_a_split_reported_twice_counts_once() -> None:
    table = _huge(0)
    history = EventScript().add(Kind.SPLIT, BASE, SLOT).dontneed(BASE, PAGE)
    table.feed(history.add(Kind.SPLIT, BASE, SLOT).batch())
    assert _now(table) == (1, 511, 0)


def test_a_collapse_deposits_the_pte_page() -> None:
    table = Table(running=Policy.PT_RECLAIM)
    table.feed(EventScript().map(BASE, SLOT).touch(BASE, 8 * PAGE).batch())
    assert _now(table) == (1, 8, 0)
    for _ in range(2):
        table.feed(EventScript().add(Kind.COLLAPSE, BASE, SLOT).batch())
        assert _now(table) == (0, 0, 1)


def test_reclaim_discards_lazyfree_entries_and_swaps_the_rest() -> None:
    table = Table(running=Policy.PT_RECLAIM)
    history = EventScript().map(BASE, SLOT).touch(BASE, 8 * PAGE).free(BASE, 4 * PAGE)
    history.add(Kind.RECLAIM, BASE, 2 * PAGE, DISCARDED)
    table.feed(history.add(Kind.RECLAIM, BASE + 4 * PAGE, 4 * PAGE, _SWAPPED).batch())
    assert _now(table) == (1, 6, 0)
    assert table.counter(Counter.EMPTY + Policy.PT_RECLAIM) == 0


def test_the_last_discarded_entry_leaves_an_empty_pte_page_or_under_pte_ref_none() -> None:
    table = Table(running=Policy.PT_RECLAIM)
    history = EventScript().map(BASE, SLOT).touch(BASE, 8 * PAGE).free(BASE, 8 * PAGE)
    table.feed(history.add(Kind.RECLAIM, BASE, 8 * PAGE, DISCARDED).batch())
    assert table.counter(Counter.EMPTY + Policy.PT_RECLAIM) == 1
    assert table.counter(Counter.TABLES + Policy.PTE_REF) == 0


def test_an_entry_that_was_swapped_is_lazyfree_no_more() -> None:
    """A write after MADV_FREE fires no event; then reclaim keeps the data."""
    table = Table(running=Policy.PT_RECLAIM)
    history = EventScript().map(BASE, SLOT).touch(BASE, PAGE).free(BASE, PAGE)
    table.feed(history.add(Kind.RECLAIM, BASE, PAGE, _SWAPPED).batch())
    table.feed(EventScript().add(Kind.ADVISE, BASE, SLOT, 21).batch())  # MADV_PAGEOUT
    assert _now(table) == (1, 1, 0)


def test_a_lazyfree_huge_page_is_discarded_whole() -> None:
    table = _huge(0)
    table.feed(EventScript().add(Kind.RECLAIM, BASE, SLOT, DISCARDED).batch())
    assert _now(table) == (0, 0, 0)


def test_pte_pages_that_come_and_go_are_counted_and_change_nothing() -> None:
    table = _huge(0)
    before = _now(table)
    table.feed(EventScript().add(Kind.PTE_ALLOC).add(Kind.PTE_ALLOC).add(Kind.PTE_FREE).batch())
    assert _now(table) == before
    assert table.counter(Counter.EVENTS + Kind.PTE_ALLOC) == 2
    assert table.counter(Counter.EVENTS + Kind.PTE_FREE) == 1


_HAPPENS = st.tuples(
    st.sampled_from(["touch", "dontneed", "free", "split", "collapse", "discard", "swap"]),
    st.integers(0, 4 * 512 - 1),
    st.sampled_from([1, 3, 512]),
)


@given(st.lists(_HAPPENS, max_size=40), st.sampled_from([0, 2]))
def test_the_counters_are_those_of_the_maps_whatever_happens(
    happens: list[tuple[str, int, int]], thp: int
) -> None:
    """The running counters equal a count of the maps at the end."""
    table = Table(running=Policy.PT_RECLAIM, huge=HugePages(thp=thp))
    history = EventScript().map(BASE, 4 * SLOT)
    for what, page, pages in happens:
        at = BASE + page * PAGE
        length = min(pages * PAGE, BASE + 4 * SLOT - at)
        match what:
            case "touch":
                history.touch(at, PAGE)
            case "dontneed":
                history.dontneed(at, length)
            case "free":
                history.free(at, length)
            case "split" | "collapse":
                history.add(Kind[what.upper()], at & -SLOT, SLOT)
            case _:
                history.add(Kind.RECLAIM, at, length, DISCARDED if what == "discard" else _SWAPPED)
    table.feed(history.batch())
    pages_now = table.pages()
    entries = sum(int(word).bit_count() for row in pages_now.present for word in row)
    empty = sum(not row.any() for row in pages_now.present)
    assert _now(table) == (len(pages_now.slots), entries, len(pages_now.huge))
    assert table.counter(Counter.EMPTY + Policy.PT_RECLAIM) == empty
