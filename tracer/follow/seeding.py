# SPDX-License-Identifier: GPL-2.0-only
"""The first reading of a running process, and which events it includes already.

The probes are attached first; then the page tables are read; then the events since
shortly before the reading are applied. An event that the reading has seen already does
no harm, because the last event on an entry decides about it. Only mremap would move
entries twice, so a reading that coincides with one is repeated.
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
    """What a shadow starts from.

    Attributes:
        seed: the page tables and VMAs.
        old: events whose effect the seed includes.
        new: events to be applied to the seed.
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
        target: the process; its events are being collected.
        reader: reads its page tables.
        held: events that were taken and not applied; this function appends more.
        take: takes the next events.
        added_at: when the probes began to collect its events, ns of CLOCK_MONOTONIC.

    Raises:
        NoSuchTargetError: the process has ended.
        OSError: the same.
        ValueError: the same; a text of /proc was cut short.
    """

    def drain() -> None:
        held.append(take())

    moved = True
    for _ in range(_TRIES):
        # A fault that began before the probes were attached ends within the margin.
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
