# SPDX-License-Identifier: GPL-2.0-only
"""The state of a process of the host, followed or only counted."""

from dataclasses import dataclass, replace

from shadow.host_view import HostProcess, Tracking
from tracer.daemon.discovery import Seen
from tracer.follow.session import Session

__all__ = ("ProcessState", "counted")


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

    def update_rates(self, now: float, shortest: float) -> None:
        """Update the event rates if the last update is at least `shortest` seconds ago."""
        passed = now - self.rate_since
        events, pages = self.session.events, self.session.pte_pages
        if passed >= shortest:
            self.events_per_second = (events - self.rate_events) / passed
            self.pages_per_second = (pages - self.rate_pages) / passed
        self.rate_since, self.rate_events, self.rate_pages = now, events, pages

    def slots(self) -> dict[int, int]:
        """Entries of each PTE page, by the first address of its slot."""
        return self.session.table.pages().entries_by_slot()

    def as_process(self, following: Tracking, watched: float, vm_pte_kib: int) -> HostProcess:
        """The current state for a view; `watched` is the share of time in which it was followed."""
        snapshot = self.session.snapshot()
        return replace(
            counted(self.seen, vm_pte_kib),
            following=following,
            watched=watched,
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
