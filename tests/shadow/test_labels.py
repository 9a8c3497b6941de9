# SPDX-License-Identifier: GPL-2.0-only
"""Calls that split VMAs from their neighbours, or merge them again."""

import mmap

import numpy as np
import pytest

from shadow.events import MAP_FLAGS_SHIFT, NOT_CACHED, SPECIAL, Kind, Label
from shadow.policy import Policy
from shadow.table.counters import Counter
from shadow.table.page_set import Pages
from shadow.table.state import HUGE_ANON
from shadow.table.table import Table
from shadow.table.vma import NO_ANON, VMA, VmaFlag
from tests.shadow.build import BASE, PAGE, RW, SLOT, EventScript

_FILE = mmap.MAP_SHARED << MAP_FLAGS_SHIFT | RW | NOT_CACHED
_MADV_DONTDUMP, _MAP_STACK = 16, 0x20000


def _spans(table: Table) -> list[tuple[int, int]]:
    """In slots from BASE."""
    vmas = table.vmas()
    ends = zip(vmas["start"].tolist(), vmas["end"].tolist(), strict=True)
    return [((start - BASE) // SLOT, (end - BASE) // SLOT) for start, end in ends]


def _fed(history: EventScript) -> Table:
    table = Table(running=Policy.PT_RECLAIM)
    table.feed(history.batch())
    return table


@pytest.mark.parametrize("label", [Label.NAME, Label.POLICY, Label.SEAL])
def test_a_label_splits_and_a_slot_that_is_split_keeps_its_pte_page(label: Label) -> None:
    history = EventScript().map(BASE, 3 * SLOT).touch(BASE, 3 * SLOT)
    history.label(BASE + SLOT + PAGE, PAGE, label, 3).dontneed(BASE, 3 * SLOT)
    table = _fed(history)
    assert table.counter(Counter.VMAS) == 3
    assert table.slots_of(Policy.PT_RECLAIM).tolist() == [BASE + SLOT]


def test_equal_labels_merge_and_others_do_not() -> None:
    history = EventScript().map(BASE, 4 * SLOT)
    history.label(BASE, SLOT, Label.POLICY, 3).label(BASE + SLOT, SLOT, Label.POLICY, 3)
    history.label(BASE + 2 * SLOT, SLOT, Label.POLICY, 4)
    assert _spans(_fed(history)) == [(0, 2), (2, 3), (3, 4)]
    history.label(BASE, 4 * SLOT, Label.POLICY, 0)
    assert _spans(_fed(history)) == [(0, 4)]


def test_a_stack_does_not_merge_with_what_lies_beside() -> None:
    stack = mmap.MAP_PRIVATE | _MAP_STACK
    history = EventScript().map(BASE, SLOT).map(BASE + SLOT, SLOT, RW, stack)
    assert _spans(_fed(history.map(BASE + 2 * SLOT, SLOT))) == [(0, 1), (1, 2), (2, 3)]


def test_one_open_file_merges_where_its_offsets_continue() -> None:
    history = EventScript()
    for slot, offset, file in ((0, 0, 7), (1, 1, 7), (2, 2, 8), (3, 4, 8), (4, 5, 8)):
        history.add(Kind.FILE, offset * SLOT, 0, file)
        history.add(Kind.MAP, BASE + slot * SLOT, SLOT, _FILE)
    assert _spans(_fed(history)) == [(0, 2), (2, 3), (3, 5)]


def test_the_file_of_one_thread_is_not_that_of_another() -> None:
    history = EventScript().add(Kind.FILE, 0, 0, 7, tid=1).add(Kind.FILE, SLOT, 0, 7, tid=2)
    history.add(Kind.MAP, BASE, SLOT, _FILE, tid=1)
    history.add(Kind.MAP, BASE + SLOT, SLOT, _FILE, tid=2)
    assert _spans(_fed(history)) == [(0, 2)]


def test_shmdt_takes_all_parts_that_are_in_their_place_and_nothing_else() -> None:
    history = EventScript()
    for first in (0, 8):
        history.add(Kind.FILE, 0, 0, first + 1)
        history.add(Kind.MAP, BASE + first * SLOT, 4 * SLOT, _FILE | SPECIAL)
    history.protect(BASE + SLOT, SLOT, 1).unmap(BASE + 2 * SLOT, SLOT)
    history.touch(BASE, 2 * SLOT, SLOT).add(Kind.DETACH, BASE)
    table = _fed(history)
    assert _spans(table) == [(8, 12)]
    assert len(table.slots_of(Policy.NONE)) == 0


def test_a_fault_that_userfaultfd_serves_makes_its_pte_page_and_no_entry() -> None:
    history = EventScript().map(BASE, SLOT).label(BASE, SLOT, Label.USERFAULT, 1)
    table = _fed(history.touch(BASE, 4 * PAGE))
    assert table.empty_slots().tolist() == [BASE]
    table.feed(EventScript().add(Kind.FILL, BASE, 3 * PAGE).batch())
    assert table.pages().entries().tolist() == [3]


def test_memory_that_is_all_huge_stays_so_where_a_call_changes_nothing() -> None:
    table = Table(running=Policy.PT_RECLAIM)
    vmas = np.array([(BASE, BASE + SLOT, RW | VmaFlag.DONTDUMP, 0, 0, 1)], VMA)
    none = np.empty(0, np.int64)
    huge = Pages(
        slots=none,
        present=np.empty((0, 8), np.uint64),
        huge=np.array([BASE]),
        huge_kind=np.array([HUGE_ANON], np.uint8),
        exact=True,
    )
    table.adopt(huge, 1)
    table.seed_vmas(vmas, 0)
    table.feed(EventScript().add(Kind.ADVISE, BASE + PAGE, PAGE, _MADV_DONTDUMP).batch())
    assert table.counter(Counter.HUGE) == 1
    table.feed(EventScript().add(Kind.ADVISE, BASE + PAGE, PAGE, _MADV_DONTDUMP + 1).batch())
    assert table.counter(Counter.HUGE) == 0


def test_anon_vmas_that_were_read_are_used_and_others_are_guessed() -> None:
    accounted = RW | VmaFlag.ACCOUNT
    rows = [
        (BASE, BASE + SLOT, accounted, 0, BASE // PAGE, 1),
        (BASE + SLOT, BASE + 2 * SLOT, VmaFlag.READ, 0, (BASE + SLOT) // PAGE, 2),
        (BASE + 2 * SLOT, BASE + 3 * SLOT, accounted, 0, (BASE + 2 * SLOT) // PAGE, NO_ANON),
    ]
    table = Table()
    table.seed_vmas(np.array(rows, VMA), 0)
    table.feed(EventScript().protect(BASE + SLOT, SLOT, RW).batch())
    assert _spans(table) == [(0, 1), (1, 3)]


def test_an_anon_vma_that_came_after_the_reading_is_kept() -> None:
    table = _fed(EventScript().map(BASE, SLOT).touch(BASE, PAGE))
    read = table.vmas()[:1].copy()
    read["anon"] = NO_ANON
    table.seed_vmas(read, 0)
    assert table.vmas()["anon"][0] > 0


def test_guards_that_were_read_replace_known_ones() -> None:
    table = _fed(EventScript().map(BASE, 4 * SLOT).add(Kind.ADVISE, BASE, PAGE, 102))
    there = np.array([BASE + SLOT]), np.array([BASE + SLOT + 2 * PAGE])
    bits = np.zeros((1, 8), np.uint64)
    bits[0, 0] = 3
    within = np.array([BASE + SLOT]), np.array([BASE + 2 * SLOT])
    real = Pages(
        slots=np.array([BASE + SLOT]),
        present=bits,
        huge=np.empty(0, np.int64),
        huge_kind=np.empty(0, np.uint8),
        exact=True,
        within=within,
        guards=there,
    )
    table.adopt(real, 10**6)
    starts, _ = table.guards()
    assert starts.tolist() == [BASE, BASE + SLOT]
    table.feed(EventScript().dontneed(BASE, 4 * SLOT).batch())
    assert table.pages().entries().tolist() == [1, 2]
