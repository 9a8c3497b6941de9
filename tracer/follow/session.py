# SPDX-License-Identifier: GPL-2.0-only
"""Follow one process: seed its shadow, apply its events, audit, take snapshots."""

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shadow.engine import Engine, Tee
from shadow.errors import NoSuchTargetError
from shadow.events import EVENT, EventBatch, Kind, births, kinds_of, uses_userfaultfd
from shadow.mapped_tables import shadow_owners, shadow_uses
from shadow.mappings import MappingUse
from shadow.records import Events, Mappings
from shadow.snapshot import Audit, Snapshot
from shadow.table.counters import Counter
from shadow.table.table import Table
from shadow.table.vma import UFFD_FLAGS
from shadow.table.vma_readings import is_torn
from shadow.user_space import clipped
from tracer.census import Reader
from tracer.follow.auditor import Auditor
from tracer.follow.description import Description
from tracer.follow.drift import ReadingBudget
from tracer.follow.first_facts import first_facts
from tracer.follow.in_full import in_full
from tracer.follow.names import Names
from tracer.follow.seeding import FirstReading, read_state
from tracer.follow.stack_feed import StackFeed
from tracer.follow.thread_names import ThreadNames
from tracer.kernel import KernelFacts
from tracer.probes.stream import Probes, take_all
from tracer.process.target import Target

if TYPE_CHECKING:
    from tracer.stacks.sampler import StackSampler

__all__ = ("LAST_PATIENCE_NS", "Session", "children_of")

_SECONDS_TO_LOAD = 0.3
"""Seconds after which a new program has loaded its libraries."""
LAST_PATIENCE_NS = 2_000_000_000
"""Longest time for the last audit; it checks the reported numbers, so it may take longer."""
_OLD_NS = 1_000_000_000
"""Age at which a reading no longer shows what the process does without events."""
_MOST_HELD = 256 << 20
"""Bytes of the events that may wait for the compiler."""
_OF_MEMORY = frozenset(range(Kind.FAULT, Kind.FORK))
"""The kinds of nearly all events: faults and calls that change only the page tables."""
_ENDED = (NoSuchTargetError, OSError, ValueError)
"""Errors of a reading during which the process ends."""
_MISSED_NOTE = (
    "The kernel skipped probes {:,} times, in this process or in others: events may be missing, so "
    "ptescope read its page tables again."
)
_USERFAULTFD_NOTE = (
    "It uses userfaultfd: events of ioctl show the pages that userfaultfd copies, zeroes or "
    "moves; ptescope reads markers of write protection again."
)


def children_of(events: EventBatch) -> list[int]:
    """Pids of the processes that these events fork or spawn, in order."""
    children: list[int] = births(events)["address"].tolist()
    return children


class Session:
    """The shadow of one process, fed from attached probes.

    Args:
        target: the process; already added to the probes.
        probes: attached probes.
        kernel: the running kernel.
        reader: reads its page tables.
        tee: receives every record of the shadow, for a trace.
        drift_every: seconds between two checks for drift without events.
        budget: the time that readings for drift may take, shared with other sessions.
        stacks: the stacks of all processes; None: take none.
    """

    def __init__(
        self,
        target: Target,
        probes: Probes,
        kernel: KernelFacts,
        reader: Reader,
        tee: Tee | None = None,
        drift_every: float = 0.5,
        budget: ReadingBudget | None = None,
        stacks: "StackSampler | None" = None,
    ) -> None:
        self.target = target
        self.children: list[int] = []
        """Pids of the processes that the target has forked or spawned, in order."""
        self._probes = probes
        self.reader = reader
        self._limit = kernel.geometry.user_bytes
        self._description = Description(target)
        self._threads = ThreadNames(target.pid)
        self._resting_since = 0
        """Time of the call of `rest` (ns, CLOCK_MONOTONIC); 0: the session takes events."""
        self._first: FirstReading | None = None
        self._held: list[EventBatch] = []
        """Events that wait for `start`."""
        self._missed = 0
        """How often the kernel has skipped a probe."""
        facts = first_facts(target, kernel, probes.attachments.by_backend(), reader)
        self.engine = Engine(facts, tee)
        self._auditor = Auditor(
            target,
            self.engine,
            reader,
            self.take,
            lambda: probes.progress(target.pid),
            drift_every,
            ReadingBudget(of_all=budget),
        )
        self._names = Names(target, self.engine)
        self._stacks = StackFeed(stacks, self.engine)

    def _update(self, **changes: Any) -> None:
        """Replace some of the facts as of now."""
        self.engine.update(time.monotonic_ns(), **changes)

    def _note(self, text: str) -> None:
        """Add a sentence on the accuracy of the numbers."""
        self.engine.note(time.monotonic_ns(), text)

    @property
    def table(self) -> Table:
        """The shadow page table."""
        return self.engine.table

    @property
    def events(self) -> int:
        """Number of events so far."""
        return self.engine.events

    @property
    def unsettled(self) -> bool:
        """Whether `pump` has work to do even without an event."""
        return self._auditor.unsettled or self._description.pending or self._threads.pending

    def look_soon(self) -> None:
        """Check for drift at the next `pump`: something has changed, perhaps without an event."""
        self._auditor.look_soon()

    @property
    def pte_pages(self) -> int:
        """Current number of PTE pages."""
        return self.table.counter(Counter.TABLES + self.table.running) + self.unplaced

    @property
    def empty(self) -> int:
        """Current number of empty PTE pages."""
        return self.table.counter(Counter.EMPTY + self.table.running) + self.unplaced

    @property
    def start_ns(self) -> int:
        """Start of the window, ns of CLOCK_MONOTONIC."""
        return self.engine.facts.start_ns

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self.engine.facts.ended

    def process_ended(self) -> None:
        """Record that the process has ended, even without an event."""
        self._update(ended=True)

    def seed(self, pending: EventBatch | None = None) -> None:
        """Read the process's state and start the shadow from it.

        If the process ends meanwhile, the shadow stays unseeded, but its events are still applied.

        Args:
            pending: events that were taken but not applied yet.
        """
        self.read(pending)
        self.start()

    def read(self, pending: EventBatch | None = None) -> None:
        """Read the process's state, for `start`; an exact reader needs no compiled code.

        Args:
            pending: see `seed`.
        """
        self._held = [np.empty(0, EVENT) if pending is None else pending]
        self._first = None
        try:
            added_at = self._probes.added_at(self.target.pid)
            self._first = read_state(self.target, self.reader, self._held, self._read, added_at)
            self._held = []
        except _ENDED:
            self._seeded_by("none")

    @property
    def was_read(self) -> bool:
        """Whether the last reading succeeded."""
        return self._first is not None or self.engine.facts.kernel.seed != "none"

    def hold(self) -> None:
        """Take events between `read` and `start`; beyond `_MOST_HELD`, they wait in the ring.

        The kernel counts the events that the ring cannot take.
        """
        if sum(batch.nbytes for batch in self._held) < _MOST_HELD and len(events := self._read()):
            self._held.append(events)

    def start(self) -> None:
        """Start the shadow from the state of `read`."""
        first, self._first = self._first, None
        if first is not None:
            self.hold()
            try:
                self._start_from(first)
            except _ENDED:
                self._seeded_by("none")
            else:
                return
        self._update(unplaced=0)
        self._note("The process ended before its page tables could be read.")
        self._apply(self._take_held())

    def _take_held(self) -> EventBatch:
        held, self._held = self._held, []
        return np.concatenate([np.empty(0, EVENT), *held])

    def _start_from(self, first: FirstReading) -> None:
        """Seed the shadow, and apply the later events."""
        if first.moved:
            self._note("It moved mappings during every first reading: everything is read again.")
        self.engine.apply(first.seed)
        with suppress(*_ENDED):
            self._probes.set_space(self.target.pid, self.reader.space(self.target))
        if (first.seed.vmas["flags"] & UFFD_FLAGS).any():
            self._note_userfaultfd()
        self._description.schedule(_SECONDS_TO_LOAD)
        self._auditor.seeding()
        self._count_only(first.old)
        self._apply(first.new)
        self._auditor.seeded(first.pte_kib)
        self._seeded_by("census" if self.reader.exact else "counted")
        self._apply(self._take_held())
        old = time.monotonic_ns() - first.seed.time > _OLD_NS
        if first.moved or old or is_torn(first.seed.vmas):
            self._auditor.distrust()

    def _seeded_by(self, how: str) -> None:
        self._update(kernel=replace(self.engine.facts.kernel, seed=how))

    def _poll_description(self) -> None:
        """Start the background lookup of the process, or collect its result."""
        try:
            process = self._description.poll()
        except Exception as error:
            self._not_described(error)
        else:
            if process:
                self._update(process=process)
                self._names.refresh()  # by now its libraries are loaded

    def _poll_threads(self, *, last: bool = False) -> None:
        """Record the names of threads if they have changed."""
        if self._threads.poll(last=last):
            self._update(threads=dict(self._threads.names))

    def _count_only(self, events: EventBatch) -> None:
        """Count events with effects that the seed already includes."""
        self.children += children_of(events)
        if len(events):
            self.engine.apply(Events(clipped(events, self._limit), counted=True))

    def pump(self) -> int:
        """Take new events, and read uncertain slots again; returns the number of events."""
        count = self.take()
        self._stacks.poll()
        if not self.ended:
            with suppress(*_ENDED):
                self._auditor.follow_up()
                self._poll_description()
                self._poll_threads()
        return count

    def follow(self) -> int:
        """Call `pump`, and detect the end of the process if no event reports it."""
        count = self.pump()
        if not count and not self.ended and not self.target.alive():
            self.process_ended()
        return count

    def take(self) -> int:
        """Only take new events; returns their number."""
        if self._resting_since:
            return 0
        events = self._read()
        if not len(events):
            # If the ring is full, a loss is reported only with the next event.
            events = self._probes.unreported_loss(self.target.pid, time.monotonic_ns())
        self._apply(events)
        return len(events)

    def _read(self) -> EventBatch:
        events = self._threads.take(self._probes.read(self.target.pid))
        return in_full(events, self.target)

    def _apply(self, events: EventBatch) -> None:
        events = clipped(events, self._limit)
        if Kind.EXEC in kinds_of(events):
            after = int(np.flatnonzero(events["kind"] == Kind.EXEC)[-1]) + 1
            self._feed(events[:after])
            with suppress(*_ENDED):
                self._update(process=self.target.identify())
            self.seed(events[after:])
            return
        self._feed(events)

    def _feed(self, events: EventBatch) -> None:
        if not len(events):
            return
        self.engine.apply(Events(events))
        self._auditor.note(events)
        kinds = kinds_of(events)
        if kinds <= _OF_MEMORY:
            return
        if uses_userfaultfd(events):
            self._note_userfaultfd()
        if missed := int(events["aux"][events["kind"] == Kind.LOSS].sum()):
            self._note_missed(missed)
        self.children += children_of(events)
        if Kind.EXIT in kinds:
            self.process_ended()

    def _note_userfaultfd(self) -> None:
        if _USERFAULTFD_NOTE not in self.engine.facts.notes:
            self._note(_USERFAULTFD_NOTE)

    def _note_missed(self, more: int) -> None:
        before = _MISSED_NOTE.format(self._missed)
        self._missed += more
        notes = (note for note in self.engine.facts.notes if note != before)
        self._update(notes=(*notes, _MISSED_NOTE.format(self._missed)))

    def audit(self, patience_ns: int = 0) -> None:
        """Compare the shadow with the real page tables, repair it, and add the result to the sums.

        An ended process is not compared.

        Args:
            patience_ns: how long to repeat readings that the process disturbs.
        """
        if not self.ended:
            self._probes.count_missed()
            with suppress(*_ENDED):
                self._auditor.audit(patience_ns)
                self._names.refresh()

    @property
    def unplaced(self) -> int:
        """Number of empty PTE pages with unknown addresses, from before the window."""
        return self.engine.facts.unplaced

    @property
    def audits(self) -> Audit:
        """The sums of all audits so far."""
        return self.engine.facts.audit

    def stop(self, patience_ns: int = LAST_PATIENCE_NS) -> None:
        """End the window: take the last events, audit, and look up the process once more."""
        take_all(self.take)
        self.audit(patience_ns)
        try:  # the process may have loaded libraries since the attach
            process = self.target.describe()
            if self.target.alive():  # a zombie has no images
                self._update(process=process)
        except Exception as error:
            self._not_described(error)
        self.end()

    def _not_described(self, error: BaseException) -> None:
        """Note a failed lookup; the process controls its images, so their errors end nothing."""
        if not isinstance(error, _ENDED):
            self._note(f"Its images could not be read: {error!r}.")

    def end(self) -> None:
        """End the window without an audit."""
        self._poll_threads(last=True)
        self._stacks.finish()
        self._description.cancel()
        self.reader.forget(self.target)
        now = time.monotonic_ns()
        self.engine.update(now, end_ns=now)

    def rest(self) -> None:
        """Pause until `resume`; snapshots show the state of this moment."""
        if self._resting_since:
            return
        take_all(self.take)
        self._probes.remove(self.target.pid)
        self._resting_since = time.monotonic_ns()
        self.engine.apply(Mappings(self._resting_since))

    def resume(self) -> None:
        """Take events again, from a new reading on.

        Raises:
            NoSuchTargetError: the process has ended.
        """
        if not self.target.alive():
            self.process_ended()
            raise NoSuchTargetError(f"Process {self.target.pid} has ended.")
        self._probes.add(self.target.pid)
        self._resting_since = 0
        self.seed()

    def mapping_uses(self) -> list[MappingUse] | None:
        """Which mappings own its page tables now; None: its mappings are not known."""
        owners = shadow_owners(self.table, self.engine.names)
        return shadow_uses(self.table, owners, self.table.running, self.unplaced)

    def snapshot(self, *, slots: bool = False, details: bool = True) -> Snapshot:
        """The current state or, while the session rests, that at the start of the rest.

        Args:
            slots: see `Engine.snapshot`.
            details: likewise.
        """
        now = self._resting_since or time.monotonic_ns()
        return self.engine.snapshot(now, slots=slots, details=details)
