"""One process: seeded, followed, audited, and what is known of it at any time.

Seeding a running process: the probes are attached first, then the real state
is read, then the events since shortly before the reading are applied to it.
An event that the reading had seen already does no harm, because the last event
on an entry decides about it; only mremap would move entries twice, so a reading
that coincides with one is repeated.
"""

import time
from contextlib import suppress

import numpy as np

from shadow.errors import NoSuchTargetError
from shadow.events import EVENT, EventBatch, Kind, kinds_of
from shadow.geometry import PAGE
from shadow.snapshot import Audit, Kernel, Process, Snapshot, take
from shadow.table import Counter, HugePages, Table
from tracer.auditor import Auditor
from tracer.census import Reader
from tracer.kernel import THP, KernelFacts, vm_pte_kib
from tracer.motion import MARGIN_NS
from tracer.probes import Probes
from tracer.target import Target

__all__ = ("Session",)

_TRIES = 5
_KINDS = 32
_SECONDS_TO_LOAD = 0.3
_ENDED = (NoSuchTargetError, OSError, ValueError)
"""What reading a process raises when it ends meanwhile."""


def _huge_pages(kernel: KernelFacts) -> HugePages:
    def orders(where: str) -> int:
        return sum(kib * 1024 // PAGE for kib in kernel.mthp[where])

    return HugePages(THP[kernel.thp], orders("always"), orders("madvise"))


class Session:
    """The shadow of one process, fed from attached probes.

    Args:
        target: the process; already added to the probes.
        probes: attached probes.
        kernel: the running kernel.
        reader: how its page tables are read.
    """

    def __init__(self, target: Target, probes: Probes, kernel: KernelFacts, reader: Reader) -> None:
        self.target = target
        self.ended = False
        self.children: list[int] = []
        """Processes that it has forked, in order."""
        self._probes = probes
        self._kernel = kernel
        self.reader = reader
        self._process: Process = target.describe()
        self._notes: list[str] = []
        self._seed = "none"
        self._describe_at = 0.0
        huge = HugePages() if target.thp_disabled() else _huge_pages(kernel)
        self.table = Table(levels=kernel.levels, running=kernel.policy, huge=huge)
        self._auditor = Auditor(target, self.table, reader, self.take)
        self.start_ns = self.end_ns = time.monotonic_ns()
        if not reader.exact:
            self._notes.append(f"Page tables are counted, not read: {reader.why}")
        if huge.always or huge.madvise:
            self._notes.append(
                "Multi-size THP is on: a fault is taken to make as many entries as the largest "
                "size that fits; where memory is short it makes fewer, which only an audit sees."
            )

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
            self._seed = "none"
            self._auditor.unplaced = 0
            self._notes.append("The process ended before its page tables could be read.")
            self._apply(np.concatenate([np.empty(0, EVENT), *held]))

    def _read_state(self, held: list[EventBatch]) -> None:
        """Seed; what the probes say meanwhile is appended to `held` and applied."""

        def drain() -> None:
            held.append(self._probes.read(self.target.pid))

        for _ in range(_TRIES):
            # A fault that began before the probes were there is over soon.
            time.sleep(MARGIN_NS / 1e9)
            drain()
            begin = time.monotonic_ns()
            vmas, brk = self.target.vmas(), self.target.program_break()
            pages = self.reader.pages(self.target, vmas, between=drain)
            pte_kib = vm_pte_kib(self.target.pid)
            drain()
            events = np.concatenate(held)
            old = events["time"] + np.uint64(MARGIN_NS) < begin
            if not np.isin(events["kind"][~old], (Kind.REMAP_TO, Kind.EXEC)).any():
                break
        else:
            self._notes.append("It moved mappings during every first reading: read once more.")
        moved = bool(np.isin(events["kind"][~old], (Kind.REMAP_TO, Kind.EXEC)).any())
        self.table.adopt(pages, begin)
        self.table.seed_vmas(vmas, brk)
        # By then its libraries are loaded, if it has just been started.
        self._describe_at = time.monotonic() + _SECONDS_TO_LOAD
        self._auditor.seeding()
        held.clear()
        self._count_only(events[old])
        self._apply(events[~old])
        self._auditor.seeded(pte_kib)
        if moved:
            self._auditor.distrust()
        self._seed = "census" if self.reader.exact else "counted"

    def _count_only(self, events: EventBatch) -> None:
        """Count events whose effect the seed has already."""
        self.children += events["address"][events["kind"] == Kind.FORK].tolist()
        counts = np.bincount(events["kind"], minlength=_KINDS)
        self.table.state.counters[Counter.EVENTS : Counter.EVENTS + _KINDS] += counts
        self.table.state.counters[Counter.LOST] += int(
            events["length"][events["kind"] == Kind.LOSS].sum()
        )

    def pump(self) -> int:
        """Take the events that have come, and read again what they make uncertain.

        Returns:
            How many came.
        """
        count = self.take()
        if not self.ended:
            with suppress(*_ENDED):
                self._auditor.follow_up()
                if self._describe_at and time.monotonic() > self._describe_at:
                    self._describe_at = 0.0
                    self._process = self.target.describe()
        return count

    def take(self) -> int:
        """Take the events that have come, and no more; returns how many."""
        events = self._probes.read(self.target.pid)
        if not len(events):
            # A full ring tells of its losses only with the next event.
            events = self._probes.untold_loss(self.target.pid, time.monotonic_ns())
        self._apply(events)
        return len(events)

    def _apply(self, events: EventBatch) -> None:
        if Kind.EXEC in kinds_of(events):
            after = int(np.flatnonzero(events["kind"] == Kind.EXEC)[-1]) + 1
            self._feed(events[:after])
            with suppress(*_ENDED):
                self._process = self.target.describe()
            self.seed(events[after:])
            return
        self._feed(events)

    def _feed(self, events: EventBatch) -> None:
        self.table.feed(events)
        self._auditor.note(events)
        kinds = kinds_of(events)
        if Kind.FORK in kinds:
            self.children += events["address"][events["kind"] == Kind.FORK].tolist()
        self.ended = self.ended or Kind.EXIT in kinds

    def audit(self) -> None:
        """Compare the shadow with the real page tables, repair it, remember the outcome.

        A process that has ended cannot be compared any more.
        """
        if not self.ended:
            with suppress(*_ENDED):
                self._auditor.audit()

    @property
    def unplaced(self) -> int:
        """Empty PTE pages from before the window, whose addresses are not known."""
        return self._auditor.unplaced

    @property
    def audits(self) -> Audit:
        """What the comparisons so far have given."""
        return self._auditor.total

    def stop(self) -> None:
        """End of the window: take what is left, audit, look who it is by now."""
        while self.take():
            pass
        self.audit()
        with suppress(*_ENDED):  # libraries may have been loaded since the attach
            self._process = self.target.describe()
        self.end_ns = time.monotonic_ns()

    def snapshot(self, *, slots: bool = False) -> Snapshot:
        """What is known now."""
        return take(
            self.table,
            process=self._process,
            kernel=Kernel(
                release=self._kernel.release,
                policy=self._kernel.policy.label,
                levels=self._kernel.levels,
                page_size=4096,
                seed=self._seed,
            ),
            start_ns=self.start_ns,
            end_ns=self.end_ns if self.end_ns > self.start_ns else time.monotonic_ns(),
            vm_pte_kib=None if self.ended else self._auditor.vm_pte_kib,
            unplaced=self._auditor.unplaced,
            audit=self._auditor.total,
            notes=list(self._notes),
            slots=slots,
        )
