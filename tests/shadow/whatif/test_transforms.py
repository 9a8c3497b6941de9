# SPDX-License-Identifier: GPL-2.0-only
"""Transforms of histories: the events that they keep, delay and merge."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.events import EVENT, EventBatch, Kind
from shadow.memory_limit import NoRoomError
from shadow.policy import Policy
from shadow.table.table import Table
from shadow.table.vma import VMA, VmaFlag
from shadow.whatif import (
    Future,
    Transform,
    delayed_purge,
    dontneed_for_free,
    munmap_for_purge,
    simulate,
    unchanged,
)
from tests.x86_64 import PAGE, SLOT

_BASE = 64 * SLOT
_SLOTS = 3
_PAGES = _SLOTS * SLOT // PAGE
_SECOND = 10**9
_WRITE_FAULT = 6
Step = tuple[Kind, int, int]


def _future(steps: list[Step], policy: Policy = Policy.PT_RECLAIM) -> Future:
    """A mapping of three slots, and steps of a second each: kind, first page, pages."""
    table = Table(running=policy)
    vmas: npt.NDArray[np.void] = np.zeros(1, VMA)
    flags = VmaFlag.READ | VmaFlag.WRITE | VmaFlag.ACCOUNT
    vmas[0] = (_BASE, _BASE + _SLOTS * SLOT, flags, 0, _BASE // PAGE, 0)
    table.seed_vmas(vmas, 0)
    rows = []
    for second, (kind, first, pages) in enumerate(steps, 1):
        aux = {Kind.FAULT: _WRITE_FAULT, Kind.DONTNEED: 4}.get(kind, 0)
        length = 0 if kind == Kind.FAULT else pages * PAGE
        rows.append((second * _SECOND, _BASE + first * PAGE, length, 1, 1, kind, 0, aux))
    return Future(table, np.array(rows, EVENT))


def _touch(first: int, pages: int) -> list[Step]:
    return [(Kind.FAULT, page, 1) for page in range(first, first + pages)]


def _purge(first: int, pages: int) -> Step:
    return Kind.DONTNEED, first, pages


def _purges(events: EventBatch) -> list[tuple[int, int]]:
    """(first page, pages) of each purge."""
    chosen = events[events["kind"] == Kind.DONTNEED]
    first = (chosen["address"].astype(np.int64) - _BASE) // PAGE
    return list(zip(first.tolist(), (chosen["length"] // PAGE).tolist(), strict=True))


def _held(seconds: float, limit_pages: int = 0) -> Transform:
    return lambda events: delayed_purge(events, int(seconds * _SECOND), limit_pages * PAGE)


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just(Kind.FAULT), st.integers(0, _PAGES - 1), st.just(1)),
        st.tuples(st.just(Kind.DONTNEED), st.integers(0, _PAGES - 1), st.integers(1, 700)).map(
            lambda step: (step[0], step[1], min(step[2], _PAGES - step[1]))
        ),
    ),
    min_size=1,
    max_size=60,
)


@given(steps=_STEPS, wait=st.integers(0, 70), limit=st.integers(0, 900), stepped=st.booleans())
def test_purging_later_leaves_the_same_pages_in_the_end(
    steps: list[Step], wait: int, limit: int, stepped: bool
) -> None:
    def later(events: EventBatch) -> EventBatch:
        return delayed_purge(events, wait * _SECOND, limit * PAGE, steps=stepped)

    future = _future(steps)
    assert simulate(future, later).refs == simulate(future, unchanged).refs


@given(steps=_STEPS)
def test_unmapping_leaves_the_same_pages_and_no_more_tables(steps: list[Step]) -> None:
    future = _future(steps)
    before, after = (
        simulate(future, unchanged, Policy.NONE),
        simulate(future, munmap_for_purge, Policy.NONE),
    )
    assert after.refs == before.refs
    assert after.pte_pages <= before.pte_pages


@given(steps=_STEPS)
def test_the_seed_and_the_events_stay_as_they_were(steps: list[Step]) -> None:
    future = _future(steps)
    events, bits = future.events.copy(), future.seed.state.counters.copy()
    for change in (_held(5), munmap_for_purge, dontneed_for_free):
        simulate(future, change)
    assert (future.events == events).all()
    assert (future.seed.state.counters == bits).all()


@given(steps=_STEPS)
def test_nothing_is_purged_twice_in_a_row(steps: list[Step]) -> None:
    """Each page of a delayed purge was purged in the history, and not reused since."""
    free: set[int] = set()
    for event in delayed_purge(_future(steps).events, 1 << 62):
        first = (int(event["address"]) - _BASE) // PAGE
        if event["kind"] == Kind.FAULT:
            free.discard(first)
        else:
            pages = set(range(first, first + int(event["length"]) // PAGE))
            assert not pages & free
            free |= pages


def test_two_halves_of_a_slot_merge_and_free_it() -> None:
    future = _future([*_touch(0, 2), _purge(0, 256), _purge(256, 256)])
    assert simulate(future, unchanged).empty == 1
    late = simulate(future, _held(10))
    assert (late.pte_pages, late.empty) == (0, 0)
    assert _purges(delayed_purge(future.events, 10 * _SECOND)) == [(0, 512)]


def test_what_is_used_again_is_not_purged() -> None:
    events = _future([*_touch(0, 3), _purge(0, 3), *_touch(1, 1)]).events
    assert _purges(delayed_purge(events, 10 * _SECOND)) == [(0, 1), (2, 1)]


def test_a_free_range_waits_for_its_newest_part() -> None:
    steps = [_purge(0, 100), _purge(400, 100), _purge(100, 100), *_touch(900, 9)]
    changed = delayed_purge(_future(steps).events, 3 * _SECOND)
    assert _purges(changed) == [(400, 100), (0, 200)]
    assert changed["time"][changed["kind"] == Kind.DONTNEED].tolist() == [5 * _SECOND, 6 * _SECOND]


def test_in_steps_half_of_what_was_freed_at_once_waits_for_half_of_the_time() -> None:
    slots, pages = 100, 100 * 256
    steps = [_purge(2 * page, 1) for page in range(pages)]  # no neighbours
    steps += _touch(512 * slots, 1)
    events = _future(steps).events
    events["time"] = np.arange(len(events)) + _SECOND
    events["time"][-1] = 100 * _SECOND
    purged = delayed_purge(events, 10 * _SECOND, steps=True)["time"][:pages].astype(np.int64)
    assert np.median(purged) / _SECOND == pytest.approx(1 + 10 / 2, abs=0.3)
    whole = delayed_purge(events, 10 * _SECOND)["time"][:pages].astype(np.int64)
    assert whole.min() >= 11 * _SECOND


def test_a_range_that_has_reached_the_limit_is_purged_at_once() -> None:
    steps = [_purge(0, 100), _purge(100, 100), _purge(200, 100), *_touch(900, 1)]
    assert _purges(delayed_purge(_future(steps).events, 60 * _SECOND, 200 * PAGE)) == [
        (0, 200),
        (200, 100),
    ]


def test_ranges_do_not_merge_across_the_beginning_of_a_mapping() -> None:
    steps: list[Step] = [(Kind.MAP, 100, 100), _purge(0, 100), _purge(100, 100)]
    assert _purges(delayed_purge(_future(steps).events, 60 * _SECOND)) == [(0, 100), (100, 100)]


def test_free_made_dontneed_empties_at_once() -> None:
    future = _future([*_touch(0, 4), (Kind.FREE, 0, 512)])
    assert simulate(future, unchanged).refs == 4
    assert simulate(future, dontneed_for_free).pte_pages == 0


def test_unmapped_memory_is_mapped_again_where_it_is_used() -> None:
    future = _future([*_touch(0, 4), _purge(0, 1024), *_touch(3, 1)])
    after = simulate(future, munmap_for_purge)
    assert (after.pte_pages, after.refs) == (1, 1)


def test_a_history_that_begins_anew_or_has_a_gap_is_not_run() -> None:
    assert _future(_touch(0, 1)).usable()
    assert not _future([*_touch(0, 1), (Kind.EXEC, 0, 1)]).usable()
    gap = _future([*_touch(0, 1), (Kind.LOSS, 0, 1)])
    assert gap.lost == PAGE  # the length of a loss is the number of lost events
    assert not gap.usable()


def test_purges_over_many_mappings_fit() -> None:
    """A purge becomes one for each mapping that it covers."""
    maps: list[Step] = [(Kind.MAP, page, 1) for page in range(100)]
    purges: list[Step] = [(Kind.DONTNEED, 0, 100)] * 50
    events = delayed_purge(_future([*maps, *purges]).events, _SECOND // 2)
    assert np.count_nonzero(events["kind"] == Kind.DONTNEED) == 50 * 100
    many: list[Step] = [(Kind.MAP, page, 1) for page in range(1000)]
    with pytest.raises(NoRoomError):
        delayed_purge(_future([*many, *[(Kind.DONTNEED, 0, 1000)] * 1000]).events, 1)


@pytest.mark.parametrize("time", [0, 1])
@pytest.mark.parametrize("length", [1, PAGE - 1, PAGE, 5 * PAGE + 1, 1000 * PAGE])
def test_a_purge_at_any_time_of_any_length_is_one_purge(time: int, length: int) -> None:
    events = np.zeros(1, EVENT)
    events["kind"], events["address"], events["length"] = Kind.DONTNEED, _BASE, length
    events["time"] = time
    (purge,) = delayed_purge(events, _SECOND)
    assert purge["length"] == -(-length // PAGE) * PAGE
