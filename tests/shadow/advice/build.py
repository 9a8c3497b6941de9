# SPDX-License-Identifier: GPL-2.0-only
"""Helpers that build evidence."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from shadow.advice import Evidence, HostFacts, Slots
from shadow.events import EVENT
from shadow.policy import Policy
from shadow.records import Facts
from shadow.snapshot import Allocator, AllocatorOption, Kernel, Process
from shadow.table.state import HugePages
from shadow.table.table import Table
from shadow.table.vma import VMA, VmaFlag
from shadow.take_snapshot import take_snapshot
from shadow.whatif import Future
from tests.shadow.build import BASE, EventScript
from tests.x86_64 import SLOT

__all__ = ("evidence", "jemalloc", "pieces", "slots", "with_now")

_PIECES = 8
_RESIDENT = 64 << 20


def jemalloc(**options: object) -> Allocator:
    """A jemalloc that serves malloc, with settings in MALLOC_CONF and the defaults of 5.3."""
    known = {
        "dirty_decay_ms": 10000,
        "muzzy_decay_ms": 0,
        "retain": "true",
        "oversize_threshold": 8 << 20,
    } | options
    conf = ",".join(f"{name}:{value}" for name, value in options.items())
    return Allocator(
        name="jemalloc",
        version="5.3.0",
        serves="malloc",
        settings={"MALLOC_CONF": conf} if conf else {},
        variables=["MALLOC_CONF"],
        options={
            name: AllocatorOption(str(value), "MALLOC_CONF" if name in options else "default")
            for name, value in known.items()
        },
    )


def pieces(number: int, *, kind: str = "dontneed") -> EventScript:
    """Map and touch this many slots, and empty each in eight pieces."""
    history = EventScript().map(BASE, number * SLOT)
    history.touch(BASE, number * SLOT, SLOT // _PIECES)
    for at in range(BASE, BASE + number * SLOT, SLOT // _PIECES):
        if kind == "dontneed":
            history.dontneed(at, SLOT // _PIECES)
        else:
            history.free(at, SLOT // _PIECES)
    return history


def slots(whole: int = 0, split: int = 0, huge: int = 0) -> Slots:
    """Empty slots from BASE on."""
    return Slots([BASE + number * SLOT for number in range(whole)], split, 0, huge)


def with_now(found: Evidence, **changes: object) -> Evidence:
    """The same evidence with changes in `snapshot.now`."""
    now = replace(found.snapshot.now, **changes)  # type: ignore[arg-type]
    return replace(found, snapshot=replace(found.snapshot, now=now))


def evidence(
    allocator: Allocator | None = None,
    history: EventScript | None = None,
    *,
    policy: Policy = Policy.PT_RECLAIM,
    release: str = "6.18.0",
    known: Slots | None = None,
    max_map_count: int = 65530,
    forks: int = 0,
) -> Evidence:
    """The evidence after `history`, which begins with an empty address space."""
    events = history.batch() if history else np.empty(0, EVENT)
    seed, table = _empty(policy), _empty(policy)
    table.feed(events)
    facts = Facts(
        process=Process(7, "server", 1, "/bin/server", allocator),
        kernel=Kernel(release, policy.label, 4, 4096, "census"),
        huge=HugePages(),
    )
    snapshot = take_snapshot(table, facts, 10**10)
    if forks:
        window = replace(snapshot.window, events=snapshot.window.events | {"fork": forks})
        snapshot = replace(snapshot, window=window)
    return Evidence(
        snapshot=snapshot,
        host=HostFacts(max_map_count=max_map_count, thp="madvise", resident=_RESIDENT, vmas=50),
        slots=known,
        future=Future(seed, events),
    )


def _empty(policy: Policy) -> Table:
    table = Table(running=policy)
    far: npt.NDArray[np.void] = np.zeros(1, VMA)
    far[0] = (4096, 8192, VmaFlag.READ, 0, 1, 0)
    table.seed_vmas(far, 0)
    return table
