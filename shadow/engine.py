# SPDX-License-Identifier: GPL-2.0-only
"""The engine: one process's records in, its snapshot out.

A live session turns data from the probes and from /proc into records, applies them to an
engine, and writes the same records to the trace. A replay applies the records of the trace.
Nothing else changes the table, and the engine reads no clock. Live following and replay
therefore give identical snapshots.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from shadow.events import EventBatch, Kind
from shadow.mapped_tables import owners_of_slots, shadow_owners, shadow_uses
from shadow.mapping_names import MappingNames
from shadow.memory_limit import Room
from shadow.origins import group_origins
from shadow.policy import Policy
from shadow.records import Events, Facts, Mappings, Record, Repair, Seed, Stacks
from shadow.snapshot import Snapshot
from shadow.stack_report import stack_report
from shadow.stack_store import StackStore
from shadow.table.contents import pte_pages
from shadow.table.counters import Counter
from shadow.table.radix import PMD_LEVEL, PUD_LEVEL
from shadow.table.table import Table
from shadow.table.vma import KNOWN_FILE
from shadow.take_snapshot import take_snapshot

__all__ = ("Engine", "Tee")

_KINDS = 32
_MOST_LOST = 1 << 62


def _nothing(_engine: "Engine", _record: Record) -> None:
    """The tee of an engine that discards its records."""


class Engine:
    """The shadow of one process, and the facts about the process.

    Args:
        facts: the first facts.
        tee: receives every record after the engine has applied it, `facts` first.
        room: limits the memory of the shadow; None: the caller limits it.
    """

    def __init__(self, facts: Facts, tee: "Tee | None" = None, room: Room | None = None) -> None:
        self.facts = facts
        self.table = Table(
            geometry=facts.kernel.geometry,
            running=Policy.from_label(facts.kernel.policy),
            huge=facts.huge,
            room=room,
        )
        self.names: MappingNames | None = None
        """The names of the mappings; None: nobody has read them."""
        self.stacks = StackStore(room)
        self._tee = tee or _nothing
        self._tee(self, facts)

    def apply(self, record: Record) -> None:
        """Apply one record, and pass it to the tee."""
        match record:
            case Events():
                if record.counted:
                    self._count(record.batch)
                else:
                    self.table.feed(record.batch)
            case Seed():
                self.table.seed(record.pages, record.time)
                self.table.seed_vmas(record.vmas, record.brk)
                self.names = record.names
            case Repair():
                self.table.adopt(record.pages, record.time)
            case Mappings():
                self.table.advance(record.time)
                self.table.adopt_upper(record.pmd_bases, record.pud_bases)
                if record.vmas is not None:
                    self.table.seed_vmas(record.vmas, record.brk)
                    self._forget_numbered()
                self.names = record.names or self.names
            case Stacks():
                self._add_stacks(record)
            case Facts():
                self.facts = record
        self._tee(self, record)

    def update(self, now_ns: int, **changes: Any) -> None:
        """Replace some of the facts, if their values change.

        Args:
            now_ns: the time of the change, CLOCK_MONOTONIC, because the engine reads no clock.
            changes: new values of fields of `Facts`.
        """
        facts = replace(self.facts, **changes)
        if facts != self.facts:
            self.apply(replace(facts, told_ns=now_ns))

    def note(self, now_ns: int, text: str) -> None:
        """Add a sentence on the limits of the numbers, at `now_ns`."""
        self.update(now_ns, notes=(*self.facts.notes, text))

    def _count(self, events: EventBatch) -> None:
        counters = self.table.state.counters
        counts = np.bincount(events["kind"], minlength=_KINDS)
        counters[Counter.EVENTS : Counter.EVENTS + _KINDS] += counts
        lost = events["length"][events["kind"] == Kind.LOSS].sum()
        counters[Counter.LOST] = min(int(counters[Counter.LOST]) + int(lost), _MOST_LOST)

    def _add_stacks(self, record: Stacks) -> None:
        self.stacks.add(record)
        if self.stacks.is_full():
            state = self.table.state
            existing = state.records[state.records["live"] != 0]
            self.stacks.drop_unused(existing, int(state.counters[Counter.NOW]))

    def _forget_numbered(self) -> None:
        """Forget the names of numbered files: each reading of VMAs starts with new numbers."""
        if self.names:
            files = {key: name for key, name in self.names.files.items() if key & KNOWN_FILE}
            self.names = replace(self.names, files=files)

    def restated(self) -> Seed:
        """The current page tables and VMAs of the shadow, as a seed for another shadow.

        The seed omits the state of policies other than the running one, and which entries
        are lazyfree.
        """
        table, counters = self.table, self.table.state.counters
        pages = replace(
            table.pages(),
            pmd_bases=table.upper_bases(PMD_LEVEL),
            pud_bases=table.upper_bases(PUD_LEVEL),
            guards=table.guards(),
        )
        brk = int(counters[Counter.BRK])
        return Seed(int(counters[Counter.NOW]), pages, self.vmas(), brk, self.names)

    def vmas(self) -> npt.NDArray[np.void]:
        """The mappings: (n,) of `shadow.table.VMA`, sorted."""
        return self.table.vmas().copy()

    @property
    def events(self) -> int:
        """The number of events that the engine has applied or counted."""
        counters = self.table.state.counters
        return int(counters[Counter.EVENTS : Counter.EVENTS + _KINDS].sum())

    def snapshot(
        self,
        now_ns: int,
        *,
        slots: bool = False,
        policy: Policy | None = None,
        details: bool = True,
    ) -> Snapshot:
        """The state at `now_ns`, or at the end of the window if the window ended before.

        Args:
            now_ns: CLOCK_MONOTONIC.
            slots: whether to list the empty slots.
            policy: show the PTE pages under this policy; None: under that of the running kernel.
            details: whether to add which mappings own the page tables, what emptied the empty
                PTE pages, who made them, and the stacks of both.
        """
        snapshot = take_snapshot(self.table, self.facts, now_ns, slots=slots, policy=policy)
        if not details:
            return snapshot
        shown = self.table.running if policy is None else policy
        pages = pte_pages(self.table.state, shown)
        owners = shadow_owners(self.table, self.names)
        mapped = owners_of_slots(self.table, owners, pages["slot"])
        origins = group_origins(pages, self.facts.threads, owners.owners, mapped)
        uses = shadow_uses(self.table, owners, shown, snapshot.now.unplaced)
        named = self.names is not None
        end_ns, threads = snapshot.window.end_ns, self.facts.threads
        stacks = stack_report(self.stacks, pages, threads, end_ns)
        return replace(
            snapshot, mappings=uses, mappings_named=named, origins=origins, stacks=stacks
        )


Tee = Callable[[Engine, Record], None]
"""A function that receives the engine and each record that the engine has applied."""
