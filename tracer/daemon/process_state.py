# SPDX-License-Identifier: GPL-2.0-only
"""The state of a process of the host, followed or only counted."""

import time
from dataclasses import dataclass, field, replace

from shadow.cells import Cells
from shadow.host_view import HostProcess, Tracking
from shadow.mappings import MappingUse, combined
from shadow.snapshot import Audit
from shadow.take_cells import cells_of
from tracer.daemon.discovery import Seen
from tracer.follow.session import Session

__all__ = ("ProcessState", "counted")

_KINDS_EVERY = 30.0
"""Seconds from one look at `kinds` to the next, at least."""
_KINDS_SHARE = 0.002
"""Share of one CPU that they may take for one process."""


@dataclass
class ProcessState:
    """A followed process, and the times of actions on it (monotonic seconds)."""

    seen: Seen
    session: Session
    found: float
    audited: float
    rate_since: float
    audited_events: int = 0
    rate_events: int = 0
    rate_pages: int = 0
    events_per_second: float = 0.0
    pages_per_second: float = 0.0
    kinds: list[MappingUse] = field(default_factory=list)
    kinds_due: float = 0.0
    kinds_of: tuple[int, Audit] | None = None
    """How many events and which audits `kinds` has taken in."""

    def update_rates(self, now: float, shortest: float) -> None:
        """Update the event rates if the last update is at least `shortest` seconds ago."""
        passed = now - self.rate_since
        events, pages = self.session.events, self.session.pte_pages
        if passed >= shortest:
            self.events_per_second = (events - self.rate_events) / passed
            self.pages_per_second = (pages - self.rate_pages) / passed
        self.rate_since, self.rate_events, self.rate_pages = now, events, pages

    def cells(self) -> Cells:
        """The cells of its map."""
        return cells_of(self.session.engine)

    def update_kinds(self, now: float) -> None:
        """Find out which kinds of mappings own its page tables, if it did anything since.

        It reads nothing of the process. One with 30 PTE pages takes a millisecond or two, one
        with 1 GiB of them a tenth of a second, and the more it takes the longer it waits.
        """
        state = self.session.events, self.session.audits
        if state == self.kinds_of:
            self.kinds_due = now + _KINDS_EVERY
            return
        begin = time.process_time()
        self.kinds = combined(self.session.mapping_uses() or [], names=False)
        took = time.process_time() - begin
        self.kinds_of, self.kinds_due = state, now + max(_KINDS_EVERY, took / _KINDS_SHARE)

    def as_process(
        self, following: Tracking, watched: float, vm_pte_kib: int, *, details: bool = False
    ) -> HostProcess:
        """What is known of it now.

        Args:
            following: how it is watched.
            watched: the share of its time that it was.
            vm_pte_kib: VmPTE as the kernel states it.
            details: see `Session.snapshot`.
        """
        snapshot = self.session.snapshot(details=details)
        return replace(
            counted(self.seen, vm_pte_kib),
            following=following,
            watched=watched,
            by_kind=self.kinds,
            snapshot=replace(snapshot, now=replace(snapshot.now, vm_pte_kib=vm_pte_kib)),
            events_per_second=self.events_per_second,
            pte_pages_per_second=self.pages_per_second,
        )


def counted(seen: Seen, vm_pte_kib: int) -> HostProcess:
    """A process that is only counted; `vm_pte_kib` is its current VmPTE."""
    return HostProcess(
        pid=seen.pid,
        start_time=seen.start_time,
        comm=seen.comm,
        cgroup=seen.cgroup,
        namespace_pid=seen.namespace_pid,
        following="counted",
        watched=0.0,
        vm_pte_kib=vm_pte_kib,
        snapshot=None,
        events_per_second=0.0,
        pte_pages_per_second=0.0,
    )
