# SPDX-License-Identifier: GPL-2.0-only
"""Events that are completed from the mappings of a process."""

import numpy as np
import pytest

from shadow.events import (
    EVENT,
    FILE_HOLE,
    FILE_TRUNCATED,
    MAP_FLAGS_SHIFT,
    SPECIAL,
    Doubt,
    EventBatch,
    Kind,
)
from tests.shadow.build import BASE, PAGE, EventScript
from tests.x86_64 import SLOT
from tracer.follow.in_full import in_full
from tracer.process.target import Target
from tracer.procfs import MapsLine

_FILE = MapsLine(
    start=BASE,
    end=BASE + 4 * SLOT,
    prot=3,
    shared=True,
    offset=2 * SLOT,
    device=(8, 1),
    inode=(7 << 32) + 99,
    name="/data",
)
_OTHER = _FILE._replace(start=BASE + 8 * SLOT, end=BASE + 9 * SLOT, inode=100, offset=0)
_TARGET = Target(1234, 0)


@pytest.fixture(autouse=True)
def _mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "file_mappings", lambda _: [_FILE, _OTHER])


def _zap(first: int, length: int, inode: int = 99, device: int = 8 << 20 | 1) -> EventBatch:
    return np.array([(5, first, length, 0, inode, Kind.FILE_ZAP, 1, device)], EVENT)


def _completed(events: EventBatch) -> list[tuple[int, int, int, int]]:
    rows = in_full(events, _TARGET)
    assert (rows["tgid"] == 1234).all()
    columns = ("kind", "address", "length", "aux")
    return list(zip(*(rows[name].tolist() for name in columns), strict=True))


def test_pages_that_leave_a_file_leave_its_mappings() -> None:
    hole = _zap(3 * SLOT, SLOT | FILE_HOLE)
    assert _completed(hole) == [(Kind.TRUNCATE, BASE + SLOT, SLOT, FILE_HOLE)]
    cut = _zap(0, 1 << 62 | FILE_TRUNCATED)
    assert _completed(cut) == [(Kind.TRUNCATE, BASE, 4 * SLOT, FILE_TRUNCATED)]


def test_a_file_that_is_not_mapped_gives_no_event() -> None:
    assert _completed(_zap(0, 2 * SLOT | FILE_HOLE)) == []
    assert _completed(_zap(0, 1 << 62 | FILE_TRUNCATED, inode=98)) == []
    assert _completed(_zap(0, 1 << 62 | FILE_TRUNCATED, device=1)) == []


def test_an_unknown_file_leads_to_a_complete_reading() -> None:
    doubts = _completed(_zap(0, 1 << 62, inode=0, device=0))
    assert doubts == [
        (Kind.DOUBT, BASE, 4 * SLOT, Doubt.FILE),
        (Kind.DOUBT, BASE + 8 * SLOT, SLOT, Doubt.FILE),
    ]


def test_an_attached_segment_is_mapped_as_in_proc_maps() -> None:
    history = EventScript().touch(BASE, PAGE)
    history.add(Kind.DOUBT, BASE + 8 * SLOT, PAGE, Doubt.ATTACHED).dontneed(BASE, PAGE)
    rows = _completed(history.batch())
    assert [row[0] for row in rows] == [Kind.FAULT, Kind.FILE, Kind.MAP, Kind.DONTNEED]
    (_, start, length, aux) = rows[2]
    assert (start, length) == (BASE + 8 * SLOT, SLOT)
    assert aux & SPECIAL
    assert aux & 1 << MAP_FLAGS_SHIFT
    gone = EventScript().add(Kind.DOUBT, BASE + 20 * SLOT, PAGE, Doubt.ATTACHED).batch()
    assert _completed(gone) == [(Kind.DOUBT, BASE + 20 * SLOT, PAGE, Doubt.ATTACHED)]
