# SPDX-License-Identifier: GPL-2.0-only
"""When drift leads to another reading of a process."""

import mmap
import os

import pytest

from tracer.follow import drift as drifting
from tracer.follow.drift import Apart, Drift, ReadingBudget, rss_error
from tracer.procfs import memory_status

_SECOND = 1_000_000_000


@pytest.fixture(autouse=True)
def _exact_rss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drifting, "rss_error", lambda: 0)


class _Case:
    """Looks a second apart at a process of 10,000 entries."""

    def __init__(self) -> None:
        self.drift = Drift()
        self.drift.rest(Apart(0, 0))
        self._now = self._newest = self._events = 0

    def look(self, page_tables: int = 0, entries: int = 0, events: int = 0) -> bool:
        """Whether the process must be read after this look; `events` are new since the last one."""
        self._now += _SECOND
        self._events += events
        if events:
            self._newest = self._now - _SECOND // 2
        self.drift.look(
            Apart(page_tables, entries),
            events=self._events, newest=self._newest, since=self._now, refs=10_000,
        )  # fmt: skip
        return self.drift.wanted


def test_an_unchanged_process_is_not_read() -> None:
    case = _Case()
    assert not any(case.look(events=number % 3) for number in range(100))


@pytest.mark.parametrize("apart", [{"page_tables": 1}, {"page_tables": -1}, {"entries": -1}])
def test_a_change_without_an_event_is_read_at_once(apart: dict[str, int]) -> None:
    case = _Case()
    case.look(events=5)
    case.look()
    assert case.look(**apart)


def test_a_change_between_events_is_read_when_it_stays() -> None:
    case = _Case()
    assert not case.look(page_tables=1, events=100)
    assert case.drift.suspected
    assert case.look(page_tables=1, events=100)


def test_a_temporary_difference_is_not_read() -> None:
    """The event of a fault arrives before its entry is set."""
    case = _Case()
    for _ in range(20):
        assert not case.look(page_tables=1, events=100)
        assert not case.look(events=100)
    assert not case.drift.suspected


def test_between_events_entries_may_be_one_percent_apart() -> None:
    case = _Case()
    for _ in range(20):
        assert not case.look(entries=100, events=10)
    assert not case.look(entries=101, events=10)
    assert case.look(entries=101, events=10)


def test_a_difference_that_a_reading_leaves_is_accepted() -> None:
    case = _Case()
    case.look(page_tables=3, events=1)
    assert case.look(page_tables=3, events=1)
    case.drift.rest(Apart(3, 0))
    assert not any(case.look(page_tables=3, events=1) for _ in range(20))
    case.look(page_tables=0, events=1)
    assert case.look(page_tables=0, events=1)


def test_useless_readings_become_rare_and_a_useful_one_makes_them_prompt() -> None:
    def looks_until_wanted(case: _Case) -> int:
        for count in range(1, 200):
            if case.look(page_tables=count % 2 + 1, events=1):
                return count
        raise AssertionError

    case = _Case()
    counts = []
    for _ in range(8):
        counts.append(looks_until_wanted(case))
        case.drift.rest(Apart(0, 0))
        case.drift.learn(in_vain=True)
    assert counts == [2, 4, 8, 16, 32, 64, 64, 64]
    case.drift.learn(in_vain=False)
    assert looks_until_wanted(case) == 2


def test_readings_take_their_share_and_no_more() -> None:
    def spent(readings: ReadingBudget, cost: int, seconds: int) -> int:
        total = 0
        for now in range(0, seconds * _SECOND, _SECOND // 10):
            if readings.may_begin(now):
                readings.took(cost)
                total += cost
        return total

    used = spent(ReadingBudget(0.05, _SECOND // 2), 50_000_000, 1000)
    assert used == pytest.approx(50.5 * _SECOND, rel=0.02)
    # One that takes longer than is saved up is made once, and then not for long.
    used = spent(ReadingBudget(0.05, _SECOND // 2), 2 * _SECOND, 100)
    assert used <= 4 * 2 * _SECOND


def test_one_process_does_not_take_what_others_need() -> None:
    everyone = ReadingBudget(0.1, 2 * _SECOND)
    greedy, modest = ReadingBudget(of_all=everyone), ReadingBudget(of_all=everyone)
    for now in range(0, 100 * _SECOND, _SECOND // 10):
        if greedy.may_begin(now):
            greedy.took(_SECOND)
    assert modest.may_begin(100 * _SECOND)


def test_the_error_of_vm_rss_on_this_kernel_is_within_its_bound() -> None:
    pages = 64
    with mmap.mmap(-1, pages * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.madvise(mmap.MADV_NOHUGEPAGE)
        before = memory_status(os.getpid()).mapped
        for page in range(pages):
            area[page * mmap.PAGESIZE] = 1
        grown = memory_status(os.getpid()).mapped - before
    assert abs(grown - pages) <= rss_error() + 8  # the interpreter's own
