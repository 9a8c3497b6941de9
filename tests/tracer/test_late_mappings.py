# SPDX-License-Identifier: GPL-2.0-only
"""An audit while the event of a call is late: its mapping is there, and its event is not."""

import time
from unittest.mock import Mock

import numpy as np

from shadow.engine import Engine
from shadow.events import EventBatch
from shadow.records import Events
from tests.shadow.build import BASE, SLOT, EventScript, pages_read
from tests.shadow.trace.traces import facts
from tracer.follow.comparer import Comparer, Comparison
from tracer.follow.coverage import READINGS
from tracer.follow.in_flight import Motion
from tracer.probes.progress import Progress

_LONG_AGO_NS = 10**9


def _mapped(slots: int) -> EventBatch:
    events = EventScript().map(BASE, slots * SLOT).batch()
    events["time"] = time.monotonic_ns() - _LONG_AGO_NS
    return events


def _compared(late_by: int | None) -> tuple[Comparison, int]:
    """An audit, and how many VMAs are wrong in the end.

    Args:
        late_by: the reading after which the event comes; None: never.
    """
    engine, motion = Engine(facts()), Motion(SLOT)
    engine.apply(Events(_mapped(1)))
    real = Engine(facts())
    real.apply(Events(_mapped(2)))
    readings, late = 0, [] if late_by is None else [_mapped(2)]

    def vmas(_target: object) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        nonlocal readings
        readings += 1
        return real.vmas()

    def take() -> int:
        if readings != late_by or not late:
            return 0
        events = late.pop()
        engine.apply(Events(events))
        motion.note(events)
        return len(events)

    reader = Mock(vmas=vmas, pages=lambda *_, **__: pages_read(0, 0))
    comparer = Comparer(Mock(), engine, reader, motion, Mock(), take, lambda: Progress.of([], 1))
    outcome = comparer.compare(None, 0)
    assert outcome is not None
    return outcome, len(engine.table.wrong_vmas(real.vmas()))


def test_an_event_that_comes_later_is_no_difference() -> None:
    for late_by in range(1, READINGS):
        outcome, wrong = _compared(late_by)
        assert wrong == 0 or not outcome.vmas_certain


def test_a_mapping_without_an_event_is_a_difference() -> None:
    outcome, wrong = _compared(None)
    assert outcome.vmas is not None
    assert outcome.vmas_certain
    assert wrong == 2
