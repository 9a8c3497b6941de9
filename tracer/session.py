"""One process: seeded, followed, audited, and what is known of it at any time.

Seeding a running process: the probes are attached first, then the real state
is read, then the events since the reading began are applied to it. An event
that the reading had seen already does no harm, because the last event on an
entry decides about it; only mremap would move entries twice, so a reading that
coincides with one is repeated.
"""

import time

import numpy as np

from shadow.events import EVENT, EventBatch, Kind
from shadow.geometry import user_address_limit
from shadow.snapshot import Audit, Kernel, Process, Snapshot, take
from shadow.table import Counter, Table
from tracer.audit import compare, pages_by_vm_pte
from tracer.kernel import THP, KernelFacts, vm_pte_kib
from tracer.pagemap import read_runs
from tracer.probes import Probes
from tracer.target import Target

__all__ = ("Session",)

_TRIES = 5
_KINDS = 32


class Session:
    """The shadow of one process, fed from attached probes.

    Args:
        target: the process; already added to the probes.
        probes: attached probes, used by this session alone.
        kernel: the running kernel.
    """

    def __init__(self, target: Target, probes: Probes, kernel: KernelFacts) -> None:
        self.target = target
        self.ended = False
        self._probes = probes
        self._kernel = kernel
        self._process: Process = target.describe()
        self._notes: list[str] = []
        self._seed = "none"
        self._unplaced_at_seed = 0
        self._audit = Audit()
        self._unplaced = 0
        self._vm_pte_kib: int | None = None
        self._apply_from = 0
        thp = 0 if target.thp_disabled() else THP[kernel.thp]
        self.table = Table(levels=kernel.levels, running=kernel.policy, thp=thp)
        self.start_ns = self.end_ns = time.monotonic_ns()
        if kernel.mthp and thp:
            self._notes.append(
                f"multi-size THP is on ({', '.join(map(str, kernel.mthp))} KiB): one fault may "
                "make several entries, so entries may be undercounted."
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
        except (OSError, ValueError):
            self._seed, self._unplaced, self._unplaced_at_seed = "none", 0, 0
            self._notes.append("The process ended before its page tables could be read.")
            self._apply(np.concatenate(held))

    def _read_state(self, held: list[EventBatch]) -> None:
        """Seed; what the probes say meanwhile is appended to `held` and applied."""
        pid, limit = self.target.pid, user_address_limit(self._kernel.levels)

        def drain() -> None:
            held.append(self._probes.read())

        for _ in range(_TRIES):
            drain()
            begin = time.monotonic_ns()
            vmas, brk = self.target.vmas(), self.target.program_break()
            runs = read_runs(pid, vmas, limit, drain)
            pte_kib, end = vm_pte_kib(pid), time.monotonic_ns()
            drain()
            events = np.concatenate(held)
            during = events[(events["time"] >= begin) & (events["time"] <= end)]
            if not np.isin(during["kind"], (Kind.REMAP_TO, Kind.EXEC)).any():
                break
        self.table.seed_vmas(vmas, brk)
        self.table.seed_entries(runs.start, runs.end, runs.huge, begin)
        self._count_only(events[events["time"] < begin])
        self._apply_from = begin
        self.table.feed(during)
        # VmPTE was read last, and the events up to then are applied: what it
        # has more than the shadow was there before and maps nothing.
        placed = self.table.counter(Counter.TABLES + self.table.running)
        self._unplaced = max(pages_by_vm_pte(self.table, pte_kib) - placed, 0)
        self._unplaced_at_seed = self._unplaced
        self._seed = "counted"
        self._apply(events[events["time"] > end])

    def _count_only(self, events: EventBatch) -> None:
        """Count events whose effect the seed has already."""
        counts = np.bincount(events["kind"], minlength=_KINDS)
        self.table.state.counters[Counter.EVENTS : Counter.EVENTS + _KINDS] += counts
        self.table.state.counters[Counter.LOST] += int(
            events["length"][events["kind"] == Kind.LOSS].sum()
        )

    def pump(self) -> int:
        """Take the events that have come; returns how many."""
        events = self._probes.read()
        self._apply(events)
        return len(events)

    def _apply(self, events: EventBatch) -> None:
        if self._apply_from and len(events):
            old = events["time"] < self._apply_from
            if old.any():
                self._count_only(events[old])
                events = events[~old]
            else:
                self._apply_from = 0
        execs = np.flatnonzero(events["kind"] == Kind.EXEC)
        if len(execs):
            after = int(execs[-1]) + 1
            self.table.feed(events[:after])
            self._process = self.target.describe()
            self.seed(events[after:])
            return
        self.table.feed(events)
        self.ended = self.ended or bool((events["kind"] == Kind.EXIT).any())

    def audit(self) -> None:
        """Compare the shadow with pagemap and VmPTE, and remember the outcome.

        Tried again while events come in between; a process that has ended
        cannot be compared any more.
        """
        if self.ended:
            return
        pid, limit = self.target.pid, user_address_limit(self._kernel.levels)
        try:
            for _ in range(_TRIES):
                while self.pump():
                    pass
                runs = read_runs(pid, self.target.vmas(), limit)
                pte_kib = vm_pte_kib(pid)
                if not self.pump():
                    break
        except OSError:
            return
        self._vm_pte_kib = pte_kib
        real = pages_by_vm_pte(self.table, pte_kib)
        placed = self.table.counter(Counter.TABLES + self.table.running)
        # Of the empty PTE pages from before, some may have been used or freed.
        self._unplaced = min(max(real - placed, 0), self._unplaced_at_seed)
        self._audit = compare(self.table, runs, real, self._unplaced)

    @property
    def unplaced(self) -> int:
        """Empty PTE pages from before the window, whose addresses are not known."""
        return self._unplaced

    def stop(self) -> None:
        """End of the window: take what is left, ask for losses not yet told, audit."""
        while self.pump():
            pass
        self.audit()
        self.end_ns = time.monotonic_ns()
        self.table.feed(self._probes.untold_loss(self.target.pid, self.end_ns))

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
            vm_pte_kib=self._vm_pte_kib,
            unplaced=self._unplaced,
            audit=self._audit,
            notes=list(self._notes),
            slots=slots,
        )
