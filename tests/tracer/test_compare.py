# SPDX-License-Identifier: GPL-2.0-only
"""Comparisons of a shadow with a reading, and the slots that a comparison leaves out."""

import numpy as np

from shadow.events import EVENT, Kind
from shadow.policy import Policy
from shadow.table.counters import Counter
from shadow.table.page_set import Pages, merged
from shadow.table.state import HUGE_ANON
from shadow.table.table import Table
from tests.shadow.build import BASE, EventScript
from tests.x86_64 import PAGE, SLOT
from tracer.follow.compare import candidates, compare
from tracer.follow.in_flight import MARGIN_NS, MOVE_NO_MAPPING, Motion

_NOW = 1_000_000_000


def _table(history: EventScript) -> Table:
    table = Table(running=Policy.PT_RECLAIM)
    table.feed(history.batch())
    return table


def _real(*slots: tuple[int, int], huge: tuple[int, ...] = (), exact: bool = True) -> Pages:
    """PTE pages given as (slot, number of entries from the first on)."""
    bits = np.zeros((len(slots), 512), np.uint8)
    for row, (_, entries) in enumerate(slots):
        bits[row, :entries] = 1
    return Pages(
        slots=np.array([slot for slot, _ in slots], np.int64),
        present=np.packbits(bits, axis=1, bitorder="little").view(np.uint64),
        huge=np.array(huge, np.int64),
        huge_kind=np.full(len(huge), HUGE_ANON, np.uint8),
        exact=exact,
    )


def _shadow() -> Table:
    """Slot 0 full, slot 1 empty."""
    history = EventScript().map(BASE, 4 * SLOT).touch(BASE, 2 * SLOT)
    return _table(
        history.dontneed(BASE + SLOT, SLOT // 2).dontneed(BASE + SLOT * 3 // 2, SLOT // 2)
    )


def test_equal_sides_have_no_difference() -> None:
    found = compare(_shadow(), _real((BASE, 512), (BASE + SLOT, 0)))
    assert len(found.slots) == found.pte_pages == found.wrong == 0
    assert found.empty_missing == found.empty_extra == 0
    assert found.causes == {}


def test_each_difference_is_counted_once_and_where_it_is() -> None:
    found = compare(_shadow(), _real((BASE, 0), (BASE + SLOT, 3), (BASE + 2 * SLOT, 0)))
    assert found.slots.tolist() == [BASE, BASE + SLOT, BASE + 2 * SLOT]
    assert found.pte_pages == 1
    assert found.empty_missing == 2
    assert found.empty_extra == 1
    assert found.wrong == 512 + 3
    assert found.causes == {"unknown": 515}


def test_a_counted_reading_says_nothing_about_empty_pages_elsewhere() -> None:
    found = compare(_shadow(), _real((BASE, 512), exact=False))
    assert len(found.slots) == found.empty_missing == found.empty_extra == 0


def test_changing_slots_are_not_compared() -> None:
    table, real = _shadow(), _real((BASE, 511), (BASE + SLOT, 1))
    slots = candidates(table.pages(), real)
    found = compare(table, real, moving=slots == BASE)
    assert found.slots.tolist() == [BASE + SLOT]
    assert found.wrong == 1


def test_a_huge_page_in_place_of_a_table_is_a_difference_of_its_own() -> None:
    found = compare(_shadow(), _real((BASE + SLOT, 0), huge=(BASE,)))
    assert found.causes == {"thp": 512}


def test_a_reading_replaces_the_shadow() -> None:
    table = _shadow()
    real = _real((BASE, 0), (BASE + SLOT, 3), (BASE + 2 * SLOT, 0), huge=(BASE + 3 * SLOT,))
    table.adopt(real, _NOW)
    found = compare(table, real)
    assert len(found.slots) == 0
    assert table.counter(Counter.DEPOSITS) == 1
    assert table.counter(Counter.REFS) == 3
    # Pages that were empty before the first reading exist under every policy but pte_ref.
    assert table.counter(Counter.EMPTY + Policy.NONE) == 2
    assert table.counter(Counter.EMPTY + Policy.PT_RECLAIM) == 2


def test_only_the_ranges_that_were_read_are_replaced() -> None:
    table = _shadow()
    within = np.array([BASE + SLOT]), np.array([BASE + 2 * SLOT])
    table.adopt(_real().restricted(within), _NOW)
    assert table.pages().slots.tolist() == [BASE]


def test_ranges_are_merged_where_they_touch() -> None:
    starts, ends = merged(np.array([50, 0, 10, 90]), np.array([60, 10, 20, 95]))
    assert starts.tolist() == [0, 50, 90]
    assert ends.tolist() == [20, 60, 95]
    assert merged(np.empty(0, np.int64), np.empty(0, np.int64))[0].tolist() == []


def test_a_slot_moves_for_a_while_after_an_event() -> None:
    motion = Motion(SLOT)
    slots = BASE + SLOT * np.arange(4)
    rows = [
        (_NOW, BASE + 5 * PAGE, 0, 1, 1, Kind.FAULT, 0, 6),
        (_NOW, BASE + 2 * SLOT - PAGE, 2 * PAGE, 1, 1, Kind.DONTNEED, 0, 4),
    ]
    motion.note(np.array(rows, EVENT))
    assert motion.moving(slots, _NOW).tolist() == [True, True, True, False]
    later = _NOW + MARGIN_NS + 1
    assert not motion.moving(slots, later).any()


def test_mappings_move_by_calls_that_change_them() -> None:
    """A fault or a zap leaves VMAs and upper levels alone, so a busy allocator can be compared."""
    for kind in Kind:
        motion = Motion(SLOT)
        motion.note(np.array([(_NOW, BASE, SLOT, 1, 1, kind, 0, 0)], EVENT))
        assert motion.mappings_moving(_NOW) == (kind not in MOVE_NO_MAPPING)
        assert not motion.mappings_moving(_NOW + MARGIN_NS + 1)


def test_a_late_event_from_before_a_reading_marks_no_slot_as_changing() -> None:
    motion = Motion(SLOT)
    motion.reading_since = _NOW + 3 * MARGIN_NS
    motion.note(np.array([(_NOW, BASE, 0, 1, 1, Kind.FAULT, 0, 6)], EVENT))
    assert not motion.moving(np.array([BASE]), motion.reading_since).any()


def test_ranges_of_calls_with_unknown_effects_are_remembered() -> None:
    motion = Motion(SLOT)
    motion.note(np.array([(_NOW, BASE, SLOT, 1, 1, Kind.POPULATE, 0, 22)], EVENT))
    motion.note(np.array([(9 * _NOW, BASE + 3 * SLOT, PAGE, 1, 1, Kind.LOCK, 0, 0)], EVENT))
    slots = BASE + SLOT * np.arange(4)
    motion.note(np.array([(9 * _NOW, BASE + SLOT, PAGE, 1, 1, Kind.ADVISE, 0, 21)], EVENT))
    called = {name: under.tolist() for name, under in motion.called(slots).items()}
    assert called["populate"] == [True, False, False, True]
    assert called["pageout"] == [False, True, False, False]
