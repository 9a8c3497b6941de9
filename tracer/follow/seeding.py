# SPDX-License-Identifier: GPL-2.0-only
"""The first reading of a running process, and the events that it already includes.

The probes are attached first. Then the page tables are read, and the events since shortly before
the reading are applied. An event that the reading already includes does no harm, because the
last event on an entry decides its state. Only mremap would move entries twice, so a reading that
coincides with an mremap is repeated.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shadow.events import EventBatch, Kind
from shadow.records import Seed
from tracer.census import Reader
from tracer.follow.in_flight import MARGIN_NS
from tracer.process.target import Target
from tracer.procfs import vm_pte_kib

__all__ = ("FirstReading", "read_state")

_TRIES = 5
_MOVES = (Kind.REMAP_TO, Kind.EXEC)


@dataclass(frozen=True)
class FirstReading:
    """The start state of a shadow.

    Attributes:
        seed: the page tables and VMAs.
        old: events with effects that the seed includes.
        new: events to apply to the seed.
        pte_kib: VmPTE at the end of the reading.
        moved: the process moved mappings during every try, so the seed cannot be trusted.
    """

    seed: Seed
    old: EventBatch
    new: EventBatch
    pte_kib: int
    moved: bool


def read_state(
    target: Target,
    reader: Reader,
    held: list[EventBatch],
    take: Callable[[], EventBatch],
    added_at: int,
) -> FirstReading:
    """Read the page tables and VMAs of a process.

    Args:
        target: the process; the probes already collect its events.
        reader: reads the page tables.
        held: events that were taken but not applied; this function appends more.
        take: takes the next events.
        added_at: time at which the probes began to collect events, ns of CLOCK_MONOTONIC.

    Raises:
        NoSuchTargetError: the process has ended.
        OSError: the process has ended.
        ValueError: the process has ended, so a text of /proc is truncated.
    """

    def drain() -> None:
        held.append(take())

    moved = True
    for _ in range(_TRIES):
        # A fault that began before the attach ends within the margin.
        time.sleep(max(added_at + MARGIN_NS - time.monotonic_ns(), 0) / 1e9)
        drain()
        begin = time.monotonic_ns()
        vmas, brk = reader.vmas(target), target.program_break()
        names = target.names(vmas)
        pages = reader.pages(target, vmas, between=drain)
        pte_kib = vm_pte_kib(target.pid)
        drain()
        events = np.concatenate(held)
        old = events["time"] + np.uint64(MARGIN_NS) < begin
        moved = bool(np.isin(events["kind"][~old], _MOVES).any())
        if not moved:
            break
    seed = Seed(begin, pages, vmas, brk, names)
    return FirstReading(seed, events[old], events[~old], pte_kib, moved)
