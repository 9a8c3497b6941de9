# SPDX-License-Identifier: GPL-2.0-only
"""Limits on fills without a reading: enough for real programs, little for hostile ones."""

import time

import numpy as np
import pytest

from shadow.events import EVENT, MAP_FLAGS_SHIFT, UNFILLED, EventBatch, Kind
from shadow.memory_limit import NoRoomError, Room
from shadow.precompile import prepare
from shadow.table.counters import Counter
from shadow.table.table import Table
from tests.shadow.build import BASE, RW, SLOT, EventScript

_PRIVATE = 0x22 << MAP_FLAGS_SHIFT | RW
_POPULATE = _PRIVATE | 0x8000 << MAP_FLAGS_SHIFT
_HUGE = 1 << 46


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    prepare()


def _batch(*rows: tuple[int, ...]) -> EventBatch:
    return np.array([(i, a, n, 7, 7, k, 0, x) for i, (k, a, n, x) in enumerate(rows, 1)], EVENT)


_CLAIMS = {
    "MAP_POPULATE": [(Kind.MAP, SLOT, _HUGE, _POPULATE)],
    "MADV_POPULATE": [(Kind.MAP, SLOT, _HUGE, _PRIVATE), (Kind.POPULATE, SLOT, _HUGE, 23)],
    "mlock": [(Kind.MAP, SLOT, _HUGE, _PRIVATE), (Kind.LOCK, SLOT, _HUGE, 0)],
    "mlockall": [(Kind.MAP, SLOT, _HUGE, _PRIVATE), (Kind.LOCK, 0, 0, 1)],
    "guards": [(Kind.MAP, SLOT, _HUGE, _PRIVATE), (Kind.ADVISE, SLOT, _HUGE, 102)],
    "mprotect": [
        (Kind.LOCK, 0, 0, 2), (Kind.MAP, SLOT, _HUGE, _PRIVATE & ~3),
        (Kind.PROTECT, SLOT, _HUGE, RW),
    ],
    "brk": [
        (Kind.LOCK, 0, 0, 2), (Kind.BRK, SLOT, 0, 0), (Kind.BRK, _HUGE, 0, 0),
    ],
    "mremap": [
        (Kind.LOCK, 0, 0, 2), (Kind.MAP, SLOT, SLOT, _PRIVATE),
        (Kind.REMAP_FROM, SLOT, SLOT, 1), (Kind.REMAP_TO, _HUGE, _HUGE, 0),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", _CLAIMS)
def test_a_live_claim_of_64_tib_is_left_to_the_reading(name: str) -> None:
    """The kernel does not report how far it came, but a later reading of page tables shows it."""
    table, events = Table(), _batch(*_CLAIMS[name])
    begin = time.monotonic()
    table.feed(events)
    assert time.monotonic() - begin < 1
    assert table.nbytes() < 64 << 20
    marked = events["aux"] & UNFILLED != 0
    assert marked.tolist() == [False] * (len(events) - 1) + [True]
    again = Table()
    again.feed(events)
    assert again.state.counters[Counter.TABLES :].tolist() == (
        table.state.counters[Counter.TABLES :].tolist()
    )


@pytest.mark.parametrize("name", _CLAIMS)
def test_the_same_claim_in_a_trace_is_refused(name: str) -> None:
    with pytest.raises(NoRoomError):
        Table(room=Room(512 << 20)).feed(_batch(*_CLAIMS[name]))


@pytest.mark.parametrize("name", _CLAIMS)
def test_recorded_traces_are_not_refused(name: str) -> None:
    events = _batch(*_CLAIMS[name])
    Table().feed(events)
    Table(room=Room(512 << 20)).feed(events)


def test_realistic_calls_are_filled() -> None:
    """256 MiB mapped with MAP_POPULATE and unmapped 10,000 times, between faults."""
    table, size = Table(), 128 * SLOT
    round_ = [
        (Kind.MAP, BASE, size, _POPULATE),
        *((Kind.FAULT, BASE + i * SLOT, 0, 6) for i in range(10)),
        (Kind.UNMAP_BEGIN, BASE, size, 0),
        (Kind.UNMAP, BASE, size, 0),
    ]
    for _ in range(100):
        events = _batch(*(round_ * 100))
        table.feed(events)
        assert not (events["aux"] & UNFILLED).any()
    events = _batch((Kind.MAP, BASE, 256 << 30, _POPULATE))
    table.feed(events)
    assert table.counter(Counter.TABLES) == 256 * 512


def test_a_reading_makes_room_again() -> None:
    table, most = Table(), 1 << 18
    fill = (Kind.MAP, SLOT, (most - 8) * SLOT, _POPULATE)
    table.feed(_batch(fill))
    second = _batch(fill)
    table.feed(second)
    assert second["aux"][0] & UNFILLED
    table.adopt(Table().pages(), 10)
    third = _batch(fill)
    table.feed(third)
    assert not third["aux"][0] & UNFILLED


def test_a_table_takes_no_more_than_the_room_of_its_trace() -> None:
    room = Room(16 << 20)
    tables = [Table(room=room), Table(room=room)]
    history = EventScript().map(BASE, 1 << 46)
    events = history.touch(BASE, 80_000 * SLOT, SLOT).batch()
    tables[0].feed(events[: len(events) // 2])
    with pytest.raises(NoRoomError, match="16 MiB"):
        tables[1].feed(events)
    assert sum(table.nbytes() for table in tables) < 48 << 20


def test_a_trace_has_no_more_mappings_than_a_process_can_have() -> None:
    """Each insertion shifts the other mappings, so millions would take hours."""
    room = Room(16 << 20)
    rows = [(Kind.MAP, BASE - i * 4 * 4096, 4096, _PRIVATE) for i in range(2 * room.mappings)]
    with pytest.raises(NoRoomError, match="more than 4,096 mappings"):
        Table(room=room).feed(_batch(*rows))
    live = Table()
    live.feed(_batch(*rows))
    assert live.counter(Counter.VMAS) == 2 * room.mappings


def test_overlapping_moves_are_ignored() -> None:
    """The kernel refuses them; if applied, each would move the same memory again."""
    table = Table()
    begin = time.monotonic()
    table.feed(
        _batch(
            (Kind.MAP, SLOT, _HUGE, _PRIVATE),
            (Kind.REMAP_FROM, SLOT, _HUGE, 1),
            (Kind.REMAP_TO, 2 * SLOT, _HUGE, 0),
        )
    )
    assert time.monotonic() - begin < 1
    assert table.counter(Counter.VMAS) == 1
