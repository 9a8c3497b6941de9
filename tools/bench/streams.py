# SPDX-License-Identifier: GPL-2.0-only
"""Streams of events for benchmarks: recorded from a real Redis, and synthetic."""

import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from shadow.events import EVENT, MAP_FLAGS_SHIFT, EventBatch, Kind
from shadow.geometry import X86_64
from shadow.policy import Policy
from shadow.table.counters import Counter
from shadow.table.table import Table
from tools.workloads.redis import private_redis
from tracer.census import open_reader
from tracer.follow.session import Session
from tracer.kernel import kernel_facts
from tracer.probes.stream import Probes
from tracer.process.target import open_target

__all__ = ("Stream", "many_slots", "redis", "synthetic")

PAGE, SLOT, ENTRIES = X86_64.page, X86_64.slot, X86_64.entries
BASE = 1 << 36
_ANONYMOUS = 0x22 << MAP_FLAGS_SHIFT | 3  # MAP_PRIVATE | MAP_ANONYMOUS, PROT_READ | PROT_WRITE
_WRITE_FAULT, _DONTNEED = 6, 4
_SPACE = 64 << 30
_PURGE = 16
"""Pages of each purge of the purge-heavy stream."""


@dataclass(frozen=True)
class Stream:
    """Events, and the table to apply them to."""

    name: str
    start: Table
    events: EventBatch


def _mapped(length: int) -> Table:
    table = Table(running=Policy.PT_RECLAIM)
    table.feed(np.array([(1, BASE, length, 1, 1, Kind.MAP, 0, _ANONYMOUS)], EVENT))
    return table


def _faults(addresses: np.ndarray[tuple[int], np.dtype[np.int64]]) -> EventBatch:
    events = np.zeros(len(addresses), EVENT)
    events["time"] = np.arange(2, len(events) + 2) * 1000
    events["address"] = addresses
    events["tgid"] = events["tid"] = 1
    events["kind"], events["aux"] = Kind.FAULT, _WRITE_FAULT
    return events


def _purge_heavy(count: int) -> EventBatch:
    """16 faults, then one call that purges their pages, repeated."""
    number = np.arange(count)
    call, within = number // (_PURGE + 1), number % (_PURGE + 1)
    begin = BASE + call * _PURGE * PAGE % (1 << 30)
    events = _faults(begin + within % _PURGE * PAGE)
    purge = within == _PURGE
    events["kind"][purge], events["aux"][purge] = Kind.DONTNEED, _DONTNEED
    events["length"][purge] = _PURGE * PAGE
    return events


def synthetic(count: int) -> Iterator[Stream]:
    """Storms of `count` events: sequential, random over 64 GiB, purge-heavy."""
    pages = np.arange(count) % (_SPACE // PAGE)
    chosen = np.random.default_rng(1).integers(0, _SPACE // PAGE, count)
    yield Stream("sequential", _mapped(_SPACE), _faults(BASE + pages * PAGE))
    yield Stream("random over 64 GiB", _mapped(_SPACE), _faults(BASE + chosen * PAGE))
    yield Stream("purge-heavy", _mapped(_SPACE), _purge_heavy(count))


def many_slots(slots: int, count: int, *, random: bool) -> Stream:
    """`count` faults over `slots` existing PTE pages, in order or at random."""
    table = _mapped(slots * SLOT)
    table.feed(_faults(BASE + np.arange(slots) * SLOT))
    rng = np.random.default_rng(2)
    if random:
        addresses = rng.integers(0, slots, count) * SLOT + rng.integers(0, ENTRIES, count) * PAGE
    else:
        visited = np.arange(count) // ENTRIES * max(slots * ENTRIES // count, 1) % slots
        addresses = visited * SLOT + np.arange(count) % ENTRIES * PAGE
    events = _faults(BASE + addresses)
    events["time"] += np.uint64(table.counter(Counter.NOW))
    return Stream(f"{slots:,} PTE pages, {'random' if random else 'in order'}", table, events)


def redis() -> Stream:
    """A real Redis that is filled, flushed, and filled again, from the seed on."""
    kernel = kernel_facts()
    probes, reader = Probes(geometry=kernel.geometry), open_reader(kernel.geometry)
    try:
        with private_redis() as server:
            probes.add(server.pid)
            session = Session(open_target(server.pid), probes, kernel, reader)
            session.seed()
            start = deepcopy(session.table)
            parts = []

            def pump(seconds: float) -> None:
                deadline = time.monotonic() + seconds
                while time.monotonic() < deadline:
                    parts.append(probes.read(server.pid))
                    time.sleep(0.01)

            server.fill(2_000_000, 200)
            pump(0.1)
            server.flush()
            pump(12)
            server.fill(400_000, 1500, "second")
            pump(0.1)
            server.delete_most(400_000, 50, "second")
            pump(12)
    finally:
        reader.close()
        probes.close()
    return Stream("Redis, recorded", start, np.concatenate(parts))
