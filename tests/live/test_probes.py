# SPDX-License-Identifier: GPL-2.0-only
"""Exact counts of known events, and a ring that is far too small."""

import mmap
import os

import numpy as np
import pytest

from shadow.events import EVENT, EventBatch, Kind
from tests.live.actor import SLOT, Actor
from tracer.kernel import kernel_facts
from tracer.probes.stream import Probes

pytestmark = pytest.mark.alone

_BASE = 0x10_0000_0000
_PRIME = 1009


def _in_range(events: EventBatch, kind: Kind) -> EventBatch:
    near = (events["address"] >= _BASE) & (events["address"] < _BASE + (1 << 32))
    found: EventBatch = events[near & (events["kind"] == kind)]
    return found


def _drain(probes: Probes, pid: int) -> EventBatch:
    parts = [probes.read(pid)]
    while len(parts[-1]):
        parts.append(probes.read(pid))
    return np.concatenate(parts)


def test_a_prime_number_of_each_event_is_counted_exactly() -> None:
    actor = Actor()
    probes = Probes(geometry=kernel_facts().geometry)
    try:
        probes.add(actor.pid)
        actor.map(_BASE, _PRIME * 4096)
        actor.touch(_BASE, _PRIME * 4096)
        for page in range(23):
            assert actor.advise(_BASE + page * 4096, 4096, mmap.MADV_DONTNEED) == 0
        for page in range(19):
            assert actor.advise(_BASE + page * 4096, 4096, mmap.MADV_FREE) == 0
        for page in range(17):
            assert actor.do("mprotect", _BASE + page * 4096, 4096, 1) == 0
        for page in range(13):
            assert actor.do("munmap", _BASE + (100 + page) * 4096, 4096) == 0
        events = _drain(probes, actor.pid)
    finally:
        probes.close()
        actor.close()
    faults = _in_range(events, Kind.FAULT)
    assert faults["address"].tolist() == [_BASE + page * 4096 for page in range(_PRIME)]
    assert len(_in_range(events, Kind.MAP)) == 1
    assert len(_in_range(events, Kind.DONTNEED)) == 23
    assert len(_in_range(events, Kind.FREE)) == 19
    assert len(_in_range(events, Kind.PROTECT)) == 17
    assert len(_in_range(events, Kind.UNMAP_BEGIN)) == 13
    assert len(_in_range(events, Kind.UNMAP)) == 13
    assert set(events["tgid"].tolist()) == {actor.pid}
    assert (np.diff(events["time"].astype(np.int64)) >= 0).all()


def test_failed_calls_change_nothing() -> None:
    """Calls that fail at a hole are an exception: they zap the memory around it."""
    actor = Actor()
    probes = Probes(geometry=kernel_facts().geometry)
    try:
        actor.map(_BASE, 4 * SLOT)
        actor.do("munmap", _BASE + SLOT, SLOT)
        probes.add(actor.pid)
        assert actor.advise(_BASE + 1, 4096, mmap.MADV_DONTNEED) < 0
        assert actor.do("munmap", _BASE + 1, 4096) < 0
        assert actor.do("mremap", _BASE + SLOT, 4096, 8192, 1, 0) < 0
        assert actor.advise(_BASE, 4 * SLOT, mmap.MADV_DONTNEED) < 0
        events = _drain(probes, actor.pid)
    finally:
        probes.close()
        actor.close()
    assert _in_range(events, Kind.DONTNEED)["length"].tolist() == [4 * SLOT]
    assert _in_range(events, Kind.UNMAP)["length"].tolist() == [0]
    assert _in_range(events, Kind.REMAP_TO)["length"].tolist() == [0]


def test_every_event_that_does_not_fit_is_accounted_for() -> None:
    """The sum of seen and lost events equals the number of events made."""
    actor = Actor()
    probes = Probes(geometry=kernel_facts().geometry, ring_bytes=4096)
    seen = lost = 0
    try:
        probes.add(actor.pid)
        actor.map(_BASE, 8 * _PRIME * 4096)
        for part in range(8):
            actor.touch(_BASE + part * _PRIME * 4096, _PRIME * 4096)
            events = _drain(probes, actor.pid)
            seen += int((events["kind"] != Kind.LOSS).sum())
            lost += int(events["length"][events["kind"] == Kind.LOSS].sum())
        # With room in the ring, the next event reports the loss first.
        actor.advise(_BASE, 4096, mmap.MADV_DONTNEED)
        events = np.concatenate([_drain(probes, actor.pid), probes.unreported_loss(actor.pid, 1)])
        lost += int(events["length"][events["kind"] == Kind.LOSS].sum())
        seen += int((events["kind"] != Kind.LOSS).sum())
        total = _count_without_loss(actor)
    finally:
        probes.close()
        actor.close()
    assert lost > 7 * _PRIME
    # The child makes a few other faults in both runs.
    assert abs(seen + lost - total) <= 0.01 * total
    assert seen + lost >= 8 * _PRIME + 2


def _count_without_loss(actor: Actor) -> int:
    """Repeat the same actions with a ring that is large enough."""
    probes = Probes(geometry=kernel_facts().geometry)
    try:
        probes.add(actor.pid)
        actor.map(_BASE, 8 * _PRIME * 4096)
        for part in range(8):
            actor.touch(_BASE + part * _PRIME * 4096, _PRIME * 4096)
        actor.advise(_BASE, 4096, mmap.MADV_DONTNEED)
        return len(_drain(probes, actor.pid))
    finally:
        probes.close()


def test_other_processes_are_filtered_in_the_kernel() -> None:
    actor, other = Actor(), Actor()
    probes = Probes(geometry=kernel_facts().geometry)
    try:
        probes.add(actor.pid)
        other.map(_BASE, SLOT)
        other.touch(_BASE, SLOT)
        os.getpid()
        assert len(_drain(probes, actor.pid)) == 0
    finally:
        probes.close()
        actor.close()
        other.close()


def test_losses_are_differences_also_beside_an_event_of_all_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel's LOSS events have totals; one with tgid 0 splits a batch."""
    batches = [
        np.array([(1, 0, 0, 0, 0, Kind.LABEL, 0, 0), (2, 0, total, 7, 7, Kind.LOSS, 0, 0)], EVENT)
        for total in (5, 9)
    ]
    probes = Probes(geometry=kernel_facts().geometry)
    try:
        probes.add(7)
        monkeypatch.setattr(probes.ring, "read", lambda: batches.pop(0))
        lengths = [probes.read(7)["length"].tolist() for _ in range(2)]
    finally:
        probes.close()
    assert lengths == [[0, 5], [0, 4]]
