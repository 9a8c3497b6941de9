# SPDX-License-Identifier: GPL-2.0-only
"""Origins: the event that made a PTE page, and the event that removed its last entry."""

import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.events import FILE_HOLE, FILE_TRUNCATED, Kind
from shadow.geometry import X86_64
from shadow.origins import BEFORE, Origins, group_origins
from shadow.page_columns import pte_pages_of
from shadow.report.origins import origins_lines
from shadow.table.contents import pte_pages
from shadow.table.state import record_type
from shadow.table.table import Table
from shadow.uapi import MADV_GUARD_INSTALL, MADV_PAGEOUT
from tests.shadow.build import BASE, DONTNEED, PAGE, SLOT, EventScript, pages_read

_SLOTS = 4
_THREADS = {1: "main", 2: "purger", 3: "helper"}


def _origins(table: Table) -> Origins:
    return group_origins(pte_pages(table.state, table.running), _THREADS)


def _emptied(script: EventScript) -> list[tuple[str, int, str | None, int]]:
    table = Table()
    table.feed(script.batch())
    return [
        (each.call, each.most_bytes, each.thread, each.pte_pages)
        for each in _origins(table).emptied
    ]


def _filled(step: int = SLOT, flags: int = mmap.MAP_PRIVATE) -> EventScript:
    return EventScript().map(BASE, _SLOTS * SLOT, flags=flags).touch(BASE, _SLOTS * SLOT, step)


@pytest.mark.parametrize(
    ("kind", "start", "length", "aux", "name", "size"),
    [
        (Kind.DONTNEED, BASE, 16 * PAGE, DONTNEED, "MADV_DONTNEED", 16 * PAGE),
        (Kind.DONTNEED, BASE, 3 * PAGE, DONTNEED, "MADV_DONTNEED", 4 * PAGE),
        (Kind.DONTNEED, BASE, PAGE, 24, "MADV_DONTNEED_LOCKED", PAGE),
        (Kind.TRUNCATE, BASE, SLOT, FILE_HOLE, "fallocate(PUNCH_HOLE)", SLOT),
        (Kind.TRUNCATE, BASE, SLOT, FILE_TRUNCATED, "truncation of the file", SLOT),
        (Kind.TRUNCATE, BASE, SLOT, 0, "MADV_REMOVE", SLOT),
    ],
)
def test_a_call_is_named_with_its_size_and_thread(
    kind: Kind, start: int, length: int, aux: int, name: str, size: int
) -> None:
    script = _filled(flags=mmap.MAP_SHARED).add(kind, start, length, aux, tid=2)
    assert _emptied(script) == [(name, size, "purger", 1)]


def test_the_call_that_took_the_last_entry_counts() -> None:
    script = _filled(SLOT // 2)
    script.add(Kind.DONTNEED, BASE, SLOT // 2, DONTNEED, tid=2)
    script.add(Kind.DONTNEED, BASE + SLOT // 2, PAGE, DONTNEED, tid=3)
    assert _emptied(script) == [("MADV_DONTNEED", PAGE, "helper", 1)]


def test_a_munmap_belongs_to_its_thread_even_if_another_thread_proves_it() -> None:
    script = _filled()
    script.add(Kind.UNMAP_BEGIN, BASE, SLOT // 2, tid=2)
    flags = (mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) << 8
    script.add(Kind.MAP, BASE, PAGE, flags | 3, tid=3)
    assert _emptied(script) == [("munmap", SLOT // 2, "purger", 1)]


def test_reclaim_after_madv_free_names_both() -> None:
    script = _filled().free(BASE, PAGE)
    script.add(Kind.RECLAIM, BASE, PAGE, 1, tid=0)
    assert _emptied(script) == [("MADV_FREE, then reclaim", 0, None, 1)]
    script = _filled().add(Kind.RECLAIM, BASE, PAGE, 1, tid=0)
    assert _emptied(script) == [("reclaim", 0, None, 1)]


def test_advice_is_named() -> None:
    script = _filled().free(BASE, PAGE).add(Kind.ADVISE, BASE, SLOT, MADV_PAGEOUT, tid=3)
    assert _emptied(script) == [("MADV_PAGEOUT", SLOT, "helper", 1)]
    script = _filled().add(Kind.ADVISE, BASE, PAGE, MADV_GUARD_INSTALL)
    assert _emptied(script) == []  # guard markers are entries


def test_mremap_leaves_the_old_slot_to_the_thread_that_moved() -> None:
    script = _filled(SLOT)
    script.add(Kind.REMAP_FROM, BASE, PAGE, 3, tid=2)
    script.add(Kind.REMAP_TO, BASE - SLOT, PAGE, tid=2)
    assert _emptied(script) == [("mremap", PAGE, "purger", 1)]


def test_the_seed_was_before_the_window_and_a_later_reading_is_no_event() -> None:
    table = Table()
    table.seed(pages_read(2, 0), 5_000)
    (emptied,), (made,) = _origins(table).emptied, _origins(table).made
    assert (emptied.call, emptied.first_ns, emptied.pte_pages) == (BEFORE, 0, 2)
    assert (made.call, made.thread, made.pte_pages) == (BEFORE, None, 2)
    table = Table()
    table.feed(_filled().batch())
    table.adopt(pages_read(_SLOTS, 0), 9_000_000)
    (emptied,) = _origins(table).emptied
    assert (emptied.call, emptied.thread) == ("no event (found by a reading)", None)
    assert emptied.first_ns == emptied.last_ns == 9_000_000


def test_who_made_them() -> None:
    script = EventScript().map(BASE, _SLOTS * SLOT)
    script.add(Kind.FAULT, BASE, 0, 6, tid=2).add(Kind.FAULT, BASE + SLOT, 0, 6, tid=3)
    script.add(Kind.POPULATE, BASE + 2 * SLOT, SLOT, 23, tid=3)
    table = Table()
    table.feed(script.dontneed(BASE, SLOT - PAGE).dontneed(BASE + SLOT, SLOT - PAGE).batch())
    made = {(each.call, each.thread): each.pte_pages for each in _origins(table).made}
    assert made == {("fault", "purger"): 1, ("fault", "helper"): 1}
    columns = pte_pages_of(table, threads=_THREADS).to_arrow().to_pylist()
    assert [row["made_by"] for row in columns] == ["purger", "helper", "helper"]
    assert [row["emptied_bytes"] for row in columns] == [SLOT - PAGE, SLOT - PAGE, None]
    assert columns[2]["made_call"] == "MADV_POPULATE"


_Step = tuple[bool, int, int, int, int]


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.integers(0, 63),
            st.integers(1, 32),
            st.integers(1, 3),
            st.integers(0, 1),
        ),
        max_size=60,
    )
)
def test_origins_are_those_of_a_plain_model(steps: list[_Step]) -> None:
    """Three threads touch and purge pages of two slots."""
    script, pages = EventScript().map(BASE, 2 * SLOT), dict[int, set[int]]()
    made, emptied = dict[int, int](), dict[int, tuple[int, int]]()
    for touch, page, count, tid, slot in steps:
        start = BASE + slot * SLOT + page * PAGE
        entries = pages.get(slot)
        if touch:
            script.add(Kind.FAULT, start, 0, 6, tid=tid)
            if entries is None:
                made[slot], pages[slot] = tid, set()
            pages[slot].add(page)
        else:
            script.add(Kind.DONTNEED, start, count * PAGE, DONTNEED, tid=tid)
            if entries:
                entries -= set(range(page, page + count))
                if not entries:
                    emptied[slot] = tid, count
    table = Table()
    table.feed(script.batch())
    found = pte_pages_of(table, threads=_THREADS).to_arrow().to_pylist()
    assert len(found) == len(pages)
    for row in found:
        slot = (row["slot"] - BASE) // SLOT
        assert row["made_by"] == _THREADS[made[slot]]
        empty = not pages[slot]
        assert row["empty"] == empty
        assert row["emptied_by"] == (_THREADS[emptied[slot][0]] if empty else None)
        assert row["emptied_bytes"] == (emptied[slot][1] * PAGE if empty else None)
    groups = _origins(table)
    assert sum(each.pte_pages for each in groups.emptied) == sum(
        not each for each in pages.values()
    )


def test_a_page_costs_less_than_256_bytes() -> None:
    size = record_type(X86_64.entries).itemsize
    assert size * 5 // 4 + 4 + 8 < 256  # 1/4 spare room, the pool, the PMD entry


def test_at_most_eight_lines_and_they_add_up() -> None:
    script = EventScript().map(BASE, 20 * SLOT)
    for number in range(12):
        slot = BASE + number * SLOT
        script.add(Kind.FAULT, slot, 0, 6, tid=100 + number)
        script.add(Kind.DONTNEED, slot, PAGE << min(number, 8), DONTNEED, tid=100 + number)
    table = Table()
    table.feed(script.batch())
    lines = [line for line in origins_lines(_origins(table), 1 << 20) if line]
    assert len(lines) == 8
    counts = [int(line[14:].split()[0].replace(",", "")) for line in lines]
    assert sum(counts[:5]) == sum(counts[5:]) == 12
    assert "other origins" in lines[4]
    assert origins_lines(_origins(Table()), 1) == []


def test_a_size_between_powers_of_two_is_in_its_class() -> None:
    pages = np.zeros(1, record_type(X86_64.entries))
    pages["emptied_call"], pages["emptied"], pages["emptied_by"] = Kind.DONTNEED, 7, 2
    for count in (*range(1, 70), (1 << 32) - 1):
        pages["emptied_pages"] = count
        (origin,) = group_origins(pages, _THREADS).emptied
        assert origin.least_bytes <= count * PAGE <= origin.most_bytes
        assert origin.most_bytes in (origin.least_bytes, 2 * origin.least_bytes)
