# SPDX-License-Identifier: GPL-2.0-only
"""What would have become of the page tables, had the process purged otherwise.

A change is a transform: events in, the events of the changed process out. Both run
through the shadow table from the same seed, so the difference is that of the change
and not of the model. What no transform can tell is where another allocator would have
put its blocks; predictions say so.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from shadow.events import EVENT, EventBatch, Kind
from shadow.geometry import PAGE
from shadow.memory_limit import NoRoomError
from shadow.policy import Policy
from shadow.table import Counter, Table
from shadow.table.jit import compiling
from shadow.whatif.delayed_purge import FOREVER, delayed_purge
from shadow.whatif.dontneed_for_free import dontneed_for_free
from shadow.whatif.munmap_for_purge import munmap_for_purge
from shadow.whatif.purge_gaps import share_of_close_purges

__all__ = (
    "FOREVER",
    "Future",
    "Outcome",
    "Transform",
    "dontneed_for_free",
    "delayed_purge",
    "share_of_close_purges",
    "simulate",
    "prepare",
    "munmap_for_purge",
    "unchanged",
)

_LOST = 0.001
"""The share of events that may be missing: fewer than a prediction is wrong by anyway."""

Transform = Callable[[EventBatch], EventBatch]


@dataclass(frozen=True)
class Outcome:
    """Page tables of the running kernel at the end of a run.

    Attributes:
        pte_pages: PTE pages there are.
        empty: those of them that map nothing.
        vmas: mappings.
        refs: entries that are not none.
    """

    pte_pages: int
    empty: int
    vmas: int
    refs: int


@dataclass(frozen=True)
class Future:
    """What was kept of a process: where it began, and what it did.

    Attributes:
        seed: the shadow at the beginning; it is not changed.
        events: (n,) of `EVENT` since then, in order.
        missing: why these are not all events up to the end of the window, if so.
    """

    seed: Table
    events: EventBatch
    missing: str | None = None

    @property
    def lost(self) -> int:
        """Events that are missing in it."""
        return int(self.events["length"][self.events["kind"] == Kind.LOSS].sum())

    def usable(self) -> bool:
        """Whether one history leads from the seed to the end: no execve, hardly any loss."""
        if self.missing or not len(self.events):
            return False
        begun_anew = (self.events["kind"] == Kind.EXEC).any()
        return not begun_anew and self.lost <= len(self.events) * _LOST


def unchanged(events: EventBatch) -> EventBatch:
    """The transform that leaves all as it was."""
    return events


def simulate(future: Future, change: Transform, policy: Policy | None = None) -> Outcome:
    """Run the process under a change.

    Args:
        future: what the process did.
        change: what it would have done instead.
        policy: that of another kernel; None: that of the kernel the events come from.
    """
    table = future.seed.trial()
    events = change(future.events)
    assert events.dtype == EVENT
    with suppress(NoRoomError):  # more mappings than any kernel allows by default
        table.feed(events)
    running = table.running if policy is None else policy
    return Outcome(
        pte_pages=table.counter(Counter.TABLES + running),
        empty=table.counter(Counter.EMPTY + running),
        vmas=table.counter(Counter.VMAS),
        refs=table.counter(Counter.REFS),
    )


def prepare() -> None:
    """Compile the transforms, or load them from the cache, before time matters."""
    purge = np.zeros(1, EVENT)
    purge["kind"], purge["length"] = Kind.DONTNEED, PAGE
    with compiling("the changes to be predicted, some ten seconds"):
        delayed_purge(purge, 1)
        munmap_for_purge(purge)
