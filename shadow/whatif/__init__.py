# SPDX-License-Identifier: GPL-2.0-only
"""Simulates the page tables of a process that purges in a different way.

A change is a transform from events to the events of the changed process. Both histories
run through the shadow table from the same seed, so their difference is due to the change
and not to the model. No transform can show where another allocator would place its
blocks; predictions state that.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from shadow.events import EVENT, EventBatch, Kind
from shadow.memory_limit import NoRoomError
from shadow.policy import Policy
from shadow.table.counters import Counter
from shadow.table.table import Table
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
    "munmap_for_purge",
    "unchanged",
)

_LOST = 0.001
"""The share of events that may be missing; the error of a prediction is larger anyway."""

Transform = Callable[[EventBatch], EventBatch]


@dataclass(frozen=True)
class Outcome:
    """The page tables at the end of a simulation.

    Attributes:
        pte_pages: number of PTE pages.
        empty: number of PTE pages that map nothing.
        vmas: number of mappings.
        refs: number of entries that are not none.
    """

    pte_pages: int
    empty: int
    vmas: int
    refs: int


@dataclass(frozen=True)
class Future:
    """The history of a process that simulations use: its beginning and its events.

    Attributes:
        seed: the shadow at the beginning; simulations do not change it.
        events: (n,) of `EVENT` since then, in order.
        missing: why events up to the end of the window are missing; None: none are.
    """

    seed: Table
    events: EventBatch
    missing: str | None = None

    @property
    def lost(self) -> int:
        """The number of events that were lost."""
        return int(self.events["length"][self.events["kind"] == Kind.LOSS].sum())

    def usable(self) -> bool:
        """Whether one history leads from the seed to the end: no execve, hardly any loss."""
        if self.missing or not len(self.events):
            return False
        replaced = (self.events["kind"] == Kind.EXEC).any()
        return not replaced and self.lost <= len(self.events) * _LOST


def unchanged(events: EventBatch) -> EventBatch:
    """The transform that changes nothing."""
    return events


def simulate(future: Future, change: Transform, policy: Policy | None = None) -> Outcome:
    """Simulate a process under a change.

    Args:
        future: the history of the process.
        change: the transform of its events.
        policy: the policy of another kernel; None: that of the recorded kernel.
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
