# SPDX-License-Identifier: GPL-2.0-only
"""All processes of a host: chosen, followed, audited in turn, let go.

Only those that have something new cost anything: the ring is emptied for all at once,
and without events a process is looked at only while something is left to be read.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import gethostname
from typing import TYPE_CHECKING

from shadow.errors import NoSuchTargetError, PtescopeError
from shadow.host_view import Cost, HostProcess, HostView, Tracking
from shadow.plural import are
from shadow.table import Counter
from tracer.census import Reader
from tracer.daemon.discovery import Processes, Seen, Selection
from tracer.daemon.heartbeat import Heartbeat
from tracer.daemon.limits import CpuBudget, Limits, memory_bytes
from tracer.daemon.memory_trim import give_back, trim_heap
from tracer.daemon.newcomers import Newcomers
from tracer.daemon.process_state import ProcessState, counted
from tracer.daemon.pulses import Pulses
from tracer.daemon.sampling import Sampling
from tracer.daemon.skipped import Refusals, described
from tracer.follow.drift import ReadingBudget
from tracer.follow.session import Session
from tracer.kernel import KernelFacts
from tracer.probes.stream import Probes
from tracer.process.target import open_target
from tracer.procfs import vm_pte_kib

__all__ = ("Host",)

if TYPE_CHECKING:  # it brings pyarrow, which a daemon that writes no traces does without
    from tracer.daemon.trace_rotation import Traces

_LIST_EVERY = 1.0
_TURNS = 60
"""In how many seconds each is asked for losses, though it has no events."""
_AUDIT_EVERY = 60.0
"""Seconds between two audits of the same process, if it did anything."""
_AUDIT_SHARE = 0.02
"""Share of one CPU that audits may take: the next one waits accordingly."""
_DRIFT_EVERY = 3600.0
"""Looks for drift follow what the pulses show each second."""
_DRIFT_SHARE, _DRIFT_SAVED_NS = 0.05, 2_000_000_000
"""What readings for drift may take of one CPU for all processes together, and save up."""
_SEEDING_SECONDS = 0.1
"""How long new processes are seeded at a time, before events are taken again."""
_KINDS_SECONDS = 0.05
"""What a view may take to find out whose page tables are."""
_RATE_OVER = 10.0
"""Seconds over which rates are told."""


class Host:
    """Watches a host.

    Args:
        probes: attached probes.
        kernel: the running kernel.
        reader: how page tables are read.
        choice: whom to follow.
        limits: what that may take.
        traces: where all is written down, if anywhere.
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
        self._limits, self._traces = limits, traces
        self._processes = Processes()
        self._unsettled: set[int] = set()
        """Those that are looked at though they have no events: a loss is only told with the
        next event, or when it is asked for."""
        self._followed: dict[int, ProcessState] = {}
        self._refusals = Refusals(limits.memory_bytes)
        self._newcomers = Newcomers(selection, limits, self._refusals)
        self._heartbeat = Heartbeat(probes)
        self._budget = CpuBudget(limits.cpu)
        self._sampling = Sampling()
        self._turn = 0
        self._next_list = self._next_audit = self._next_rates = 0.0
        self._gone_events = self._gone_lost = self._unseen_forks = self._failures = 0
        self._pulses = Pulses(reader)
        self._reading_budget = ReadingBudget(_DRIFT_SHARE, _DRIFT_SAVED_NS)

    @property
    def sessions(self) -> dict[int, Session]:
        """Those that are followed, by pid."""
        return {pid: followed.session for pid, followed in self._followed.items()}

    def resting(self, pid: int) -> bool:
        """Whether this process is sampled and left alone now."""
        return self._sampling.resting(pid)

    def step(self) -> int:
        """Do what is due; returns how many processes had events."""
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
                    followed.tell_rates(now, _RATE_OVER / 2)
            trim_heap()
        if now >= self._next_audit:
            self._audit_one(now)
        self._heartbeat.beat(now)
        if self._traces:
            self._traces.turn_over()
        return busy

    def _pump(self) -> int:
        """Give each process its events, and time to read again what they left uncertain."""
        ready = self._probes.poll()
        for pid in self._unsettled.union(ready) & self._followed.keys():
            if not self._sampling.resting(pid):
                with self._alone(pid):
                    self._pump_one(pid)
        return len(ready)

    def _pump_one(self, pid: int) -> None:
        session = self._followed[pid].session
        again = session.pump() or session.unsettled
        (self._unsettled.add if again else self._unsettled.discard)(pid)
        for child in session.children:
            self._unseen_forks += self._processes.look_at(child) is None
        session.children.clear()
        if session.ended:
            self._let_go(pid)

    @contextmanager
    def _alone(self, pid: int) -> Iterator[None]:
        """What goes wrong with one process ends the following of that one, and nothing else."""
        try:
            yield
        except Exception as error:
            self._failures += 1
            self._refuse(pid, described(error))

    def _refuse(self, pid: int, why: str) -> None:
        """Follow it no more, and say so."""
        followed, seen = self._followed.get(pid), self._processes.seen.get(pid)
        known = followed.seen if followed else seen
        if known:
            self._refusals.refuse(known.identity, why, time.monotonic())
        self._let_go(pid)

    def _feel_pulses(self) -> None:
        """Look soon at those that changed though no event says so."""
        awake = {
            pid: followed.session.target
            for pid, followed in self._followed.items()
            if not self._sampling.resting(pid)
        }
        for pid in self._pulses.moved(awake):
            self._followed[pid].session.look_soon()
            self._unsettled.add(pid)

    def _choose(self, now: float) -> None:
        """Who is new, who is gone, who has been replaced under the same pid."""
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
        """Begin to follow those that wait, for a while."""
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
                self._failures += 1
                self._refuse(process.pid, described(error))
        if not self._newcomers:
            give_back()  # what readings needed

    def _follow(self, process: Seen, now: float) -> None:
        target = open_target(process.pid)
        if target.start_time != process.start_time:
            return  # another one by now, which the next list finds
        self._probes.add(process.pid)
        tee = self._traces.tee() if self._traces else None
        session = Session(
            *(target, self._probes, self._kernel, self._reader, tee),
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
        """It has ended, there is no memory left for it, or it cannot be followed."""
        followed = self._followed.pop(pid, None)
        if followed:
            session = followed.session
            with suppress(Exception):  # it may be let go for what went wrong with it
                session.rest()
            with suppress(Exception):
                session.end()
            self._gone_events += session.events
            self._gone_lost += session.table.counter(Counter.LOST)
            if self._traces:
                self._traces.forget(session.engine)
        self._probes.remove(pid)
        self._sampling.forget(pid)
        self._pulses.forget(pid)
        self._unsettled.discard(pid)

    def _stay_within(self, now: float) -> None:
        """Memory: the least interesting are only counted. CPU: the busiest are only sampled."""
        while memory_bytes() > self._limits.memory_bytes and self._followed:
            least = min(self._followed.values(), key=lambda f: f.session.empty)
            self._refusals.let_go(least.seen.identity, now)
            self._let_go(least.seen.pid)
        over = self._budget.over()
        if over is None:
            return
        if over:
            rates = {pid: f.events_per_second for pid, f in self._followed.items()}
            self._sampling.save(rates, now)
        elif self._budget.use < self._limits.cpu / 2:
            self._sampling.spend()
        for pid in self._sampling.due(now):
            with self._alone(pid):
                self._take_turn(pid)

    def _take_turn(self, pid: int) -> None:
        """It is sampled, and begins or ends to rest."""
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

    def _audit_one(self, now: float) -> None:
        """Audit whoever was not audited for the longest time, if it did anything since."""
        due = [
            followed
            for pid, followed in self._followed.items()
            if now - followed.audited >= _AUDIT_EVERY
            and followed.session.events > followed.audited_events
            and not self._sampling.resting(pid)
        ]
        if not due:
            self._next_audit = now + _LIST_EVERY
            return
        oldest = min(due, key=lambda followed: followed.audited)
        begin = time.process_time()
        with self._alone(oldest.seen.pid):
            oldest.session.audit()
        oldest.audited, oldest.audited_events = now, oldest.session.events
        self._next_audit = now + (time.process_time() - begin) / _AUDIT_SHARE

    def audit(self) -> None:
        """Audit all that are followed now."""
        for pid, followed in list(self._followed.items()):
            if not self._sampling.resting(pid):
                with self._alone(pid):
                    followed.session.audit()

    def close(self) -> None:
        """Let go of all, and end the trace."""
        for pid in list(self._followed):
            self._let_go(pid)
        self._pulses.close()
        if self._traces:
            self._traces.close()

    def view(self, *, slots_of: int | None = None, kinds: bool = False) -> HostView:
        """All that is known now.

        Args:
            slots_of: a process whose slots and mappings are to be in it.
            kinds: whether to say of each which kinds of mappings own its page tables.
        """
        now = time.monotonic()
        if kinds:
            self._update_kinds(now)
        processes = []
        sizes = self._reader.page_table_kib([f.session.target for f in self._followed.values()])
        for pid, seen in list(self._processes.seen.items()):
            with self._alone(pid), suppress(OSError):  # it has ended, and is no more in the view
                process = self._as_process(seen, sizes.get(pid), now, mappings=pid == slots_of)
                processes.append(process)
        slots: dict[int, int] = {}
        if slots_of is not None and slots_of in self._followed:
            with self._alone(slots_of):
                slots = self._followed[slots_of].slots()
        return HostView(
            time_ns=time.monotonic_ns(),
            hostname=gethostname(),
            release=self._kernel.release,
            policy=self._kernel.policy.label,
            processes=processes,
            cost=self._cost(),
            notes=self.notes(),
            slots=slots,
            slots_of=slots_of,
        )

    def _update_kinds(self, now: float) -> None:
        """Whose page tables are, for those whose turn it is, as far as time goes."""
        due = [followed for followed in self._followed.values() if followed.kinds_due <= now]
        deadline = time.monotonic() + _KINDS_SECONDS
        for followed in sorted(due, key=lambda followed: followed.kinds_due):
            with self._alone(followed.seen.pid):
                followed.update_kinds(now)
            if time.monotonic() > deadline:
                return

    def _as_process(
        self, seen: Seen, size: int | None, now: float, *, mappings: bool
    ) -> HostProcess:
        """As the view has it, with the VmPTE that it has now.

        Args:
            seen: the process.
            size: its VmPTE as the reader has it, which is right if it is what it was before.
            now: monotonic seconds.
            mappings: whether to say which mappings own its page tables.

        Raises:
            OSError: it has ended.
        """
        pid, followed = seen.pid, self._followed.get(seen.pid)
        if followed is None:
            return counted(seen, vm_pte_kib(pid))
        before = followed.session.engine.facts.vm_pte_kib
        vm_pte = size if size is not None and size == before else vm_pte_kib(pid)
        following: Tracking = "sampled" if self._sampling.samples(pid) else "followed"
        watched = self._sampling.watched(pid, followed.found, now)
        return followed.as_process(following, watched, vm_pte, mappings=mappings)

    def _cost(self) -> Cost:
        sessions = [followed.session for followed in self._followed.values()]
        tables = [session.table for session in sessions]
        return Cost(
            cpu_seconds=time.process_time(),
            memory_bytes=memory_bytes(),
            shadow_bytes=sum(table.nbytes() for table in tables),
            events=self._gone_events + sum(session.events for session in sessions),
            lost=self._gone_lost + sum(table.counter(Counter.LOST) for table in tables),
            ring_bytes=self._probes.ring.size,
            ring_used_bytes=self._probes.ring.backlog(),
            uncounted_forks=self._unseen_forks,
            newest_event_ns=max((table.counter(Counter.NOW) for table in tables), default=0),
            sees_events=self._heartbeat.alive,
            failures=self._failures,
        )

    def notes(self) -> list[str]:
        """What limits have made of it, in sentences."""
        notes = self._refusals.notes()
        if self._sampling.count:
            notes.append(
                f"{are(self._sampling.count, 'process')} sampled in time: to follow them all the "
                f"time would take more than the {self._limits.cpu:.0%} of a CPU of --max-cpu."
            )
        if self._heartbeat.missed:
            notes.append("No event of our own came back lately: the probes may be detached.")
        if self._traces and self._traces.problem:
            notes.append(self._traces.problem)
        return notes
