# SPDX-License-Identifier: GPL-2.0-only
"""One process: seeded, followed, audited, and what is known of it at any time.

Seeding a running process: the probes are attached first, then the real state
is read, then the events since shortly before the reading are applied to it.
An event that the reading had seen already does no harm, because the last event
on an entry decides about it; only mremap would move entries twice, so a reading
that coincides with one is repeated.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from socket import gethostname

import numpy as np

from shadow.engine import Engine, Tee
from shadow.errors import NoSuchTargetError
from shadow.events import EVENT, EventBatch, Kind, births, kinds_of, uses_userfaultfd
from shadow.geometry import PAGE, user_address_limit
from shadow.mapped_tables import shadow_uses
from shadow.mappings import MappingUse
from shadow.records import Events, Facts, Mappings, Seed
from shadow.snapshot import Audit, Kernel, Process, Snapshot
from shadow.table import UFFD_FLAGS, Counter, HugePages, Table
from shadow.user_space import clipped
from tracer.census import Reader
from tracer.follow.auditor import Auditor
from tracer.follow.drift import ReadingBudget
from tracer.follow.in_flight import MARGIN_NS
from tracer.follow.in_full import in_full
from tracer.follow.names import Names
from tracer.kernel import THP, KernelFacts
from tracer.probes.stream import Probes
from tracer.process.target import Target
from tracer.procfs import vm_pte_kib

__all__ = ("LAST_PATIENCE_NS", "Session", "children_of")

_TRIES = 5
_SECONDS_TO_LOAD = 0.3
LAST_PATIENCE_NS = 2_000_000_000
"""The last audit judges what the report shows, so it may take longer than others."""
_DESCRIBER = ThreadPoolExecutor(1, "describe")
"""Looks into a process's images while its events are taken; starts after rights are dropped."""
_ENDED = (NoSuchTargetError, OSError, ValueError)
"""What reading a process raises when it ends meanwhile."""


def _huge_pages(kernel: KernelFacts) -> HugePages:
    def orders(where: str) -> int:
        return sum(kib * 1024 // PAGE for kib in kernel.mthp[where])

    return HugePages(THP[kernel.thp], orders("always"), orders("madvise"))


def children_of(events: EventBatch) -> list[int]:
    """The processes that were forked or spawned, in order."""
    children: list[int] = births(events)["address"].tolist()
    return children


class Session:
    """The shadow of one process, fed from attached probes.

    Args:
        target: the process; already added to the probes.
        probes: attached probes.
        kernel: the running kernel.
        reader: how its page tables are read.
        tee: is handed all that its shadow is made of, for a trace.
        drift_every: seconds between two looks whether it drifts without events.
        budget: what readings for drift may take together with those of other sessions.
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
    ) -> None:
        self.target = target
        self.children: list[int] = []
        """Processes that it has forked or spawned, in order."""
        self._probes = probes
        self.reader = reader
        self._limit = user_address_limit(kernel.levels)
        self._describe_at = 0.0
        self._described: Future[Process] | None = None
        self._resting_since = 0
        """When `rest` was called (ns, CLOCK_MONOTONIC); 0: events are taken."""
        huge = HugePages() if target.thp_disabled() else _huge_pages(kernel)
        facts = Facts(
            process=target.identify(),
            kernel=Kernel(
                *(kernel.release, kernel.policy.label, kernel.levels, PAGE, "none"),
                probes=probes.attachments.by_backend(),
            ),
            huge=huge,
            max_map_count=kernel.max_map_count,
            host=gethostname(),
            start_ns=time.monotonic_ns(),
            wall_ns=time.time_ns(),
        )
        self.engine = Engine(facts, tee)
        self._auditor = Auditor(
            target, self.engine, reader, self.take, drift_every, ReadingBudget(of_all=budget)
        )
        self._names = Names(target, self.engine)
        if not reader.exact:
            self.engine.note(f"Page tables are counted, not read: {reader.why}")
        if huge.always or huge.madvise:
            self.engine.note(
                "Multi-size THP is on: a fault is taken to make as many entries as the largest "
                "size that fits; where memory is short it makes fewer, which only an audit sees."
            )

    @property
    def table(self) -> Table:
        """Its shadow page table."""
        return self.engine.table

    @property
    def events(self) -> int:
        """How many events there were."""
        return self.engine.events

    @property
    def unsettled(self) -> bool:
        """Whether there is something to do for it though no event comes."""
        return self._auditor.unsettled or bool(self._describe_at or self._described)

    def look_soon(self) -> None:
        """Look for drift at the next occasion: something has changed, perhaps without an event."""
        self._auditor.look_soon()

    @property
    def pte_pages(self) -> int:
        """PTE pages that it has now."""
        return self.table.counter(Counter.TABLES + self.table.running) + self.unplaced

    @property
    def empty(self) -> int:
        """Those of them that map nothing."""
        return self.table.counter(Counter.EMPTY + self.table.running) + self.unplaced

    @property
    def start_ns(self) -> int:
        """Begin of the window, CLOCK_MONOTONIC."""
        return self.engine.facts.start_ns

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self.engine.facts.ended

    def process_ended(self) -> None:
        """The process is known to have ended, whether an event told or not."""
        self.engine.update(ended=True)

    def seed(self, pending: EventBatch | None = None) -> None:
        """Read the process's state and start the shadow from it.

        A process that ends meanwhile leaves the shadow unseeded; the events
        are applied all the same.

        Args:
            pending: events that were read already and are not applied yet.
        """
        held = [np.empty(0, EVENT) if pending is None else pending]
        try:
            self._read_state(held)
        except _ENDED:
            self._seeded_by("none")
            self.engine.update(unplaced=0)
            self.engine.note("The process ended before its page tables could be read.")
            self._apply(np.concatenate([np.empty(0, EVENT), *held]))

    def _seeded_by(self, how: str) -> None:
        self.engine.update(kernel=replace(self.engine.facts.kernel, seed=how))

    def _identify(self) -> None:
        self.engine.update(process=self.target.identify())

    def _look_who_it_is(self) -> None:
        """Begin to find out, or take over what was found out, in a thread of its own."""
        if self._describe_at and time.monotonic() > self._describe_at:
            self._describe_at = 0.0
            self._described = _DESCRIBER.submit(self.target.describe)
        if self._described and self._described.done():
            described, self._described = self._described, None
            problem = described.exception()
            if problem is None:
                self.engine.update(process=described.result())
                self._names.refresh()  # by now its libraries are loaded
            else:
                self._not_described(problem)

    def _read_state(self, held: list[EventBatch]) -> None:
        """Seed; what the probes say meanwhile is appended to `held` and applied."""

        def drain() -> None:
            held.append(self._read())

        for _ in range(_TRIES):
            # A fault that began before the probes were there is over soon.
            settled = self._probes.added_at(self.target.pid) + MARGIN_NS
            time.sleep(max(settled - time.monotonic_ns(), 0) / 1e9)
            drain()
            begin = time.monotonic_ns()
            vmas, brk = self.reader.vmas(self.target), self.target.program_break()
            names = self.target.names(vmas)
            pages = self.reader.pages(self.target, vmas, between=drain)
            pte_kib = vm_pte_kib(self.target.pid)
            drain()
            events = np.concatenate(held)
            old = events["time"] + np.uint64(MARGIN_NS) < begin
            if not np.isin(events["kind"][~old], (Kind.REMAP_TO, Kind.EXEC)).any():
                break
        else:
            self.engine.note("It moved mappings during every first reading: read once more.")
        moved = bool(np.isin(events["kind"][~old], (Kind.REMAP_TO, Kind.EXEC)).any())
        self.engine.apply(Seed(begin, pages, vmas, brk, names))
        self._probes.told_space(self.target.pid, self.reader.space(self.target))
        if (vmas["flags"] & UFFD_FLAGS).any():
            self._note_userfaultfd()
        # By then its libraries are loaded, if it has just been started.
        self._describe_at = time.monotonic() + _SECONDS_TO_LOAD
        self._auditor.seeding()
        held.clear()
        self._count_only(events[old])
        self._apply(events[~old])
        self._auditor.seeded(pte_kib)
        if moved:
            self._auditor.distrust()
        self._seeded_by("census" if self.reader.exact else "counted")

    def _count_only(self, events: EventBatch) -> None:
        """Count events whose effect the seed has already."""
        self.children += children_of(events)
        if len(events):
            self.engine.apply(Events(clipped(events, self._limit), counted=True))

    def pump(self) -> int:
        """Take the events that have come, and read again what they make uncertain.

        Returns:
            How many came.
        """
        count = self.take()
        if not self.ended:
            with suppress(*_ENDED):
                self._auditor.follow_up()
                self._look_who_it_is()
        return count

    def take(self) -> int:
        """Take the events that have come, and no more; returns how many."""
        if self._resting_since:
            return 0
        events = self._read()
        if not len(events):
            # A full ring tells of its losses only with the next event.
            events = self._probes.untold_loss(self.target.pid, time.monotonic_ns())
        self._apply(events)
        return len(events)

    def _read(self) -> EventBatch:
        return in_full(self._probes.read(self.target.pid), self.target)

    def _apply(self, events: EventBatch) -> None:
        events = clipped(events, self._limit)
        if Kind.EXEC in kinds_of(events):
            after = int(np.flatnonzero(events["kind"] == Kind.EXEC)[-1]) + 1
            self._feed(events[:after])
            with suppress(*_ENDED):
                self._identify()
            self.seed(events[after:])
            return
        self._feed(events)

    def _feed(self, events: EventBatch) -> None:
        if not len(events):
            return
        self.engine.apply(Events(events))
        self._auditor.note(events)
        if uses_userfaultfd(events):
            self._note_userfaultfd()
        self.children += children_of(events)
        if Kind.EXIT in kinds_of(events):
            self.process_ended()

    def _note_userfaultfd(self) -> None:
        note = (
            "It uses userfaultfd: pages that are copied, zeroed or moved there are followed by "
            "the ioctls that do it; markers of write protection are read again."
        )
        if note not in self.engine.facts.notes:
            self.engine.note(note)

    def audit(self, patience_ns: int = 0) -> None:
        """Compare the shadow with the real page tables, repair it, remember the outcome.

        A process that has ended cannot be compared any more.

        Args:
            patience_ns: how long to go on where the process changes what is read.
        """
        if not self.ended:
            with suppress(*_ENDED):
                self._auditor.audit(patience_ns)
                self._names.refresh()

    @property
    def unplaced(self) -> int:
        """Empty PTE pages from before the window, whose addresses are not known."""
        return self.engine.facts.unplaced

    @property
    def audits(self) -> Audit:
        """What the comparisons so far have given."""
        return self.engine.facts.audit

    def stop(self, patience_ns: int = LAST_PATIENCE_NS) -> None:
        """End of the window: take what is left, audit, look who it is by now."""
        while self.take():
            pass
        self.audit(patience_ns)
        try:  # libraries may have been loaded since the attach
            process = self.target.describe()
            if self.target.alive():  # a zombie has no images, and nothing is known of it any more
                self.engine.update(process=process)
        except Exception as error:
            self._not_described(error)
        self.end()

    def _not_described(self, error: BaseException) -> None:
        """Its images are as it likes; what they do to us does not end the following."""
        if not isinstance(error, _ENDED):
            self.engine.note(f"Its images could not be looked into: {error!r}.")

    def end(self) -> None:
        """End of the window, as it stands."""
        if self._described:
            self._described.cancel()
        self.reader.forget(self.target)
        self.engine.update(end_ns=time.monotonic_ns())

    def rest(self) -> None:
        """Take no events until `resume`; what is known stays as it is now."""
        if self._resting_since:
            return
        while self.take():
            pass
        self._probes.remove(self.target.pid)
        self._resting_since = time.monotonic_ns()
        self.engine.apply(Mappings(self._resting_since))

    def resume(self) -> None:
        """Take events again, from a new reading on.

        Raises:
            NoSuchTargetError: it has ended.
        """
        if not self.target.alive():
            self.process_ended()
            raise NoSuchTargetError(f"Process {self.target.pid} has ended.")
        self._probes.add(self.target.pid)
        self._resting_since = 0
        self.seed()

    def mapping_uses(self) -> list[MappingUse] | None:
        """Which mappings own its page tables now; None: its mappings are not known."""
        return shadow_uses(self.table, self.engine.names, self.table.running, self.unplaced)

    def snapshot(self, *, slots: bool = False, mappings: bool = True) -> Snapshot:
        """What is known now, or was when it began to rest."""
        now = self._resting_since or time.monotonic_ns()
        return self.engine.snapshot(now, slots=slots, mappings=mappings)
