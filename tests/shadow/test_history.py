# SPDX-License-Identifier: GPL-2.0-only
"""The history of a process: its seed and events, as long as they are continuous."""

from collections.abc import Sequence

import numpy as np

from shadow.engine import Engine
from shadow.events import EVENT, EventBatch, Kind
from shadow.history import History, HistoryStore
from shadow.records import Events, Facts, Record
from shadow.whatif import Future, simulate, unchanged
from tests.shadow.build import BASE, SLOT, EventScript
from tests.shadow.trace.traces import END_NS, facts, records

_SEEDED = 3
"""Number of `records` before the first events."""


def _keep(given: Sequence[Record], kept: History) -> Engine:
    first, *others = given
    assert isinstance(first, Facts)
    engine = Engine(first, kept)
    for record in others:
        engine.apply(record)
    return engine


def _kept(*given: Record, most: int = 1000) -> Future:
    kept = HistoryStore(most).process()
    _keep(given, kept)
    future = kept.take()
    assert future is not None
    return future


def _exec() -> EventBatch:
    return np.array([(1_000_000, 0, 0, 7, 7, Kind.EXEC, 0, 0)], EVENT)


def test_replayed_events_lead_from_the_seed_to_the_final_state() -> None:
    given = [*records()[:6], Events(EventScript().touch(BASE + 30 * SLOT, SLOT).batch())]
    kept = HistoryStore().process()
    now = _keep(given, kept).snapshot(END_NS).now
    future = kept.take()
    assert future is not None
    assert future.usable()
    found = simulate(future, unchanged)
    assert (found.pte_pages, found.empty, found.refs) == (now.pte_pages, now.empty, now.refs)


def test_events_that_the_seed_has_already_are_not_kept() -> None:
    given = records()
    batches = [r.batch for r in given if isinstance(r, Events) and not r.counted]
    assert len(_kept(*given).events) == sum(map(len, batches))


def test_execve_starts_a_new_history() -> None:
    begin, events = records()[:_SEEDED], records()[4]
    future = _kept(*begin, events, Events(_exec()), begin[-1], events)
    assert future.usable()
    assert isinstance(events, Events)
    assert (future.events == events.batch).all()


def test_a_later_seed_means_that_events_are_missing() -> None:
    begin, events = records()[:_SEEDED], records()[4]
    future = _kept(*begin, events, begin[-1], events)
    assert future.missing is not None
    assert "gap" in future.missing
    assert not future.usable()


def test_a_history_needs_a_seed() -> None:
    future = _kept(facts(), records()[4])
    assert future.missing is not None
    assert not future.usable()
    assert len(future.events)  # the history still has the purges


def test_with_too_many_events_the_largest_history_is_dropped() -> None:
    store = HistoryStore(100)
    few, many = store.process(), store.process()
    _keep([*records()[:_SEEDED], Events(EventScript().touch(BASE, 40 * 4096).batch())], few)
    _keep([*records()[:_SEEDED], Events(EventScript().touch(BASE, 70 * 4096).batch())], many)
    assert (few.events, many.events) == (40, 0)
    futures = few.take(), many.take()
    assert futures[0] is not None
    assert futures[1] is not None
    assert futures[0].usable()
    assert "--keep" in (futures[1].missing or "")
    assert few.events == 0
