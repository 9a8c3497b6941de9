# SPDX-License-Identifier: GPL-2.0-only
"""Select, follow, audit and drop the processes of a host.

A process without events costs nothing: one read empties the ring for all processes, and the
host pumps a process only if it has events or unfinished reads.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import gethostname
from typing import TYPE_CHECKING

from shadow.errors import NoSuchTargetError, PtescopeError
from shadow.host_view import HostProcess, HostView, Tracking
from tracer.census import Reader
from tracer.daemon.audits import Audits
from tracer.daemon.discovery import Processes, Seen, Selection
from tracer.daemon.enforcement import Enforcement
from tracer.daemon.heartbeat import Heartbeat
from tracer.daemon.limits import Limits
from tracer.daemon.memory_trim import give_back, trim_heap
from tracer.daemon.newcomers import Newcomers
from tracer.daemon.process_state import ProcessState, counted
from tracer.daemon.pulses import Pulses
from tracer.daemon.sampling import Sampling
from tracer.daemon.skipped import Refusals, described
from tracer.daemon.totals import Totals
from tracer.follow.drift import ReadingBudget
from tracer.follow.session import Session
from tracer.kernel import KernelFacts
from tracer.probes.stream import Probes
from tracer.process.target import open_target
from tracer.procfs import vm_pte_kib

__all__ = ("Host",)

if TYPE_CHECKING:  # imports pyarrow, which a daemon without traces does not need
    from tracer.daemon.trace_rotation import Traces

_LIST_EVERY = 1.0
_TURNS = 60
"""Seconds within which each process is pumped, because it may have losses but no events."""
_DRIFT_EVERY = 3600.0
"""Seconds between checks of a process for drift; rare, because pulses trigger checks too."""
_DRIFT_SHARE, _DRIFT_SAVED_NS = 0.05, 2_000_000_000
"""Share of one CPU that drift readings of all processes may use, and how much they save up."""
_SEEDING_SECONDS = 0.1
"""Longest time for seeding, seconds, before events are taken again."""
_KINDS_SECONDS = 0.05
"""Longest time per view, seconds, to find the kinds of mappings that own page tables."""
_RATE_OVER = 10.0
"""Seconds over which event rates are computed."""


class Host:
    """Watches a host.

    Args:
        probes: attached probes.
        kernel: the running kernel.
        reader: reads page tables.
        selection: which processes to follow.
        limits: the memory and CPU that following may take.
        traces: the trace files; None: do not record.
    """

    def __init__(
        self,
        probes: Probes,
        kernel: KernelFacts,
        reader: Reader,
        *,
        selection: Selection,
        limits: Limits,
        traces: "Traces | None" = None,
    ) -> None:
        self._probes, self._kernel, self._reader = probes, kernel, reader
        self._traces = traces
        self._processes = Processes()
        self._unsettled: set[int] = set()
        """Processes to pump although they have no events: a loss is reported only with the
        next event, or on request."""
        self._followed: dict[int, ProcessState] = {}
        self._refusals = Refusals(limits.memory_bytes)
        self._newcomers = Newcomers(selection, limits, self._refusals)
        self._heartbeat = Heartbeat(probes)
        self._sampling = Sampling()
        self._enforcement = Enforcement(limits, self._sampling)
        self._audits = Audits(self._sampling.resting, self._alone)
        self._totals = Totals()
        self._turn = 0
        self._next_list = self._next_rates = 0.0
        self._pulses = Pulses(reader)
        self._reading_budget = ReadingBudget(_DRIFT_SHARE, _DRIFT_SAVED_NS)

    @property
    def sessions(self) -> dict[int, Session]:
        """Sessions of the followed processes, by pid."""
        return {pid: followed.session for pid, followed in self._followed.items()}

    @property
    def blind(self) -> bool:
        """Whether the last test event did not come back."""
        return self._heartbeat.missed

    def resting(self, pid: int) -> bool:
        """Whether this process is sampled and paused now."""
        return self._sampling.resting(pid)

    def step(self) -> int:
        """Do all due work; returns the number of processes that had events."""
        now = time.monotonic()
        busy = self._pump()
        self._seed(now)
        if now >= self._next_list:
            self._next_list = now + _LIST_EVERY
            self._turn = (self._turn + 1) % _TURNS
            self._unsettled |= {pid for pid in self._followed if pid % _TURNS == self._turn}
            self._processes.look(now, seldom=self._followed.keys())
            self._choose(now)
            self._stay_within(now)
            self._feel_pulses()
        if now >= self._next_rates:
            self._next_rates = now + _RATE_OVER
            for pid, followed in list(self._followed.items()):
                with self._alone(pid):
                    followed.update_rates(now, _RATE_OVER / 2)
            trim_heap()
        self._audits.run_due(self._followed, now)
        self._heartbeat.beat(now)
        if self._traces:
            self._traces.turn_over()
        return busy

    def _pump(self) -> int:
        """Pump processes with events or unfinished reads; returns the number with events."""
        ready = self._probes.poll()
        for pid in self._unsettled.union(ready) & self._followed.keys():
            if not self._sampling.resting(pid):
                with self._alone(pid):
                    self._pump_one(pid)
        return len(ready)

    def _pump_one(self, pid: int) -> None:
        session = self._followed[pid].session
        came = session.pump()
        if came or session.unsettled:
            self._unsettled.add(pid)
        else:
            self._unsettled.discard(pid)
        for child in session.children:
            if self._processes.look_at(child) is None:
                self._totals.uncounted_forks += 1
        session.children.clear()
        if session.ended:
            self._let_go(pid)

    @contextmanager
    def _alone(self, pid: int) -> Iterator[None]:
        """Confine errors in this block: they end the following of this process only."""
        try:
            yield
        except Exception as error:
            self._totals.failures += 1
            self._refuse(pid, described(error))

    def _refuse(self, pid: int, why: str) -> None:
        """Stop following this process, and report why."""
        followed, seen = self._followed.get(pid), self._processes.seen.get(pid)
        known = followed.seen if followed else seen
        if known:
            self._refusals.refuse(known.identity, why, time.monotonic())
        self._let_go(pid)

    def _feel_pulses(self) -> None:
        """Check for drift where the pulse of a process changes without an event."""
        awake = {
            pid: followed.session.target
            for pid, followed in self._followed.items()
            if not self._sampling.resting(pid)
        }
        for pid in self._pulses.moved(awake):
            with self._alone(pid):
                self._followed[pid].session.look_soon()
                self._unsettled.add(pid)

    def _choose(self, now: float) -> None:
        """Find new and ended processes, and reused pids."""
        seen = self._processes.seen
        for pid, followed in list(self._followed.items()):
            there = seen.get(pid)
            if there is not None and there.identity == followed.seen.identity:
                followed.seen = there
                continue
            with self._alone(pid):
                if not followed.session.target.alive():
                    followed.session.process_ended()
                    self._let_go(pid)
        self._newcomers.notice(seen, self._followed, now)

    def _seed(self, now: float) -> None:
        """Start to follow waiting processes, for `_SEEDING_SECONDS` at most."""
        if not self._newcomers:
            return
        deadline = time.monotonic() + _SEEDING_SECONDS
        while self._newcomers and time.monotonic() < deadline:
            process = self._newcomers.next()
            try:
                self._follow(process, now)
            except (PtescopeError, OSError) as error:
                self._refuse(process.pid, str(error))
            except Exception as error:
                self._totals.failures += 1
                self._refuse(process.pid, described(error))
        if not self._newcomers:
            give_back()  # free the memory that the readings needed

    def _follow(self, process: Seen, now: float) -> None:
        target = open_target(process.pid)
        if target.start_time != process.start_time:
            return  # the pid is reused; the next listing finds the new process
        self._probes.add(process.pid)
        tee = self._traces.tee() if self._traces else None
        session = Session(
            target,
            self._probes,
            self._kernel,
            self._reader,
            tee,
            drift_every=_DRIFT_EVERY,
            budget=self._reading_budget,
        )
        session.seed()
        self._followed[process.pid] = ProcessState(
            process, session, now, audited=now, rate_since=now
        )
        self._unsettled.add(process.pid)
        self._refusals.accept(process.identity)

    def _let_go(self, pid: int) -> None:
        """Drop a process: it has ended, its memory is needed, or it cannot be followed."""
        followed = self._followed.pop(pid, None)
        if followed:
            session = followed.session
            with suppress(Exception):  # an error of this session may be the reason for the drop
                session.rest()
            with suppress(Exception):
                session.end()
            self._totals.add_gone(session)
            if self._traces:
                self._traces.forget(session.engine)
        self._probes.remove(pid)
        self._sampling.forget(pid)
        self._pulses.forget(pid)
        self._unsettled.discard(pid)

    def _stay_within(self, now: float) -> None:
        """Drop processes while too much memory is in use; sample some to save CPU."""
        while least := self._enforcement.to_drop(self._followed):
            self._refusals.let_go(least.seen.identity, now)
            self._let_go(least.seen.pid)
        for pid in self._enforcement.turns(self._followed, now):
            with self._alone(pid):
                self._take_turn(pid)

    def _take_turn(self, pid: int) -> None:
        """Pause or resume a sampled process."""
        session = self._followed[pid].session
        if self._sampling.resting(pid):
            session.rest()
            return
        try:
            session.resume()
        except (NoSuchTargetError, OSError):
            self._let_go(pid)
        else:
            self._unsettled.add(pid)

    def audit(self) -> None:
        """Audit every followed process."""
        self._audits.run_all(self._followed)

    def close(self) -> None:
        """Drop all processes and end the trace."""
        for pid in list(self._followed):
            self._let_go(pid)
        self._pulses.close()
        if self._traces:
            self._traces.close()

    def view(self, *, slots_of: int | None = None, kinds: bool = False) -> HostView:
        """The current state of the host.

        Args:
            slots_of: pid of the process to include with its slots and mappings.
            kinds: whether to include the kinds of mappings that own page tables.
        """
        now = time.monotonic()
        if kinds:
            self._update_kinds(now)
        processes = []
        sizes = self._reader.page_table_kib([f.session.target for f in self._followed.values()])
        for pid, seen in list(self._processes.seen.items()):
            with self._alone(pid), suppress(OSError):  # the process has ended: leave it out
                process = self._as_process(seen, sizes.get(pid), now, details=pid == slots_of)
                processes.append(process)
        cells = None
        if slots_of is not None and slots_of in self._followed:
            with self._alone(slots_of):
                cells = self._followed[slots_of].cells()
        return HostView(
            time_ns=time.monotonic_ns(),
            hostname=gethostname(),
            release=self._kernel.release,
            policy=self._kernel.policy.label,
            page_size=self._kernel.geometry.page,
            processes=processes,
            cost=self._totals.cost(
                list(self.sessions.values()),
                self._probes.ring,
                sees_events=self._heartbeat.alive,
            ),
            notes=self.notes(),
            slots=cells.entries_by_slot(self._kernel.policy) if cells else {},
            slots_of=slots_of,
            cells=cells,
        )

    def _update_kinds(self, now: float) -> None:
        """Find the owners of page tables for processes that are due, until the time runs out."""
        due = [followed for followed in self._followed.values() if followed.kinds_due <= now]
        deadline = time.monotonic() + _KINDS_SECONDS
        for followed in sorted(due, key=lambda followed: followed.kinds_due):
            with self._alone(followed.seen.pid):
                followed.update_kinds(now)
            if time.monotonic() > deadline:
                return

    def _as_process(
        self, seen: Seen, size: int | None, now: float, *, details: bool
    ) -> HostProcess:
        """One process for the view, with its current VmPTE.

        Args:
            seen: the process.
            size: VmPTE from the reader; it is used if it is unchanged since the last read.
            now: monotonic seconds.
            details: see `Session.snapshot`.

        Raises:
            OSError: the process has ended.
        """
        pid, followed = seen.pid, self._followed.get(seen.pid)
        if followed is None:
            return counted(seen, vm_pte_kib(pid))
        before = followed.session.engine.facts.vm_pte_kib
        vm_pte = size if size is not None and size == before else vm_pte_kib(pid)
        following: Tracking = "sampled" if self._sampling.samples(pid) else "followed"
        watched = self._sampling.watched(pid, followed.found, now)
        return followed.as_process(following, watched, vm_pte, details=details)

    def notes(self) -> list[str]:
        """Sentences on the limits of this view of the host."""
        notes = self._refusals.notes() + self._enforcement.notes()
        if self.blind:
            notes.append(
                "The last test event did not come back: the probes may be detached; "
                "restart ptescope."
            )
        if self._probes.missed:
            notes.append(
                f"The kernel skipped probes {self._probes.missed:,} times: events are missing, and "
                "ptescope reads page tables again."
            )
        if self._traces and self._traces.problem:
            notes.append(self._traces.problem)
        return notes
