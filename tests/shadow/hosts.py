# SPDX-License-Identifier: GPL-2.0-only
"""A synthetic host with a few processes."""

from shadow.host_view import Cost, HostProcess, HostView
from shadow.policy import Policy
from shadow.records import Facts
from shadow.snapshot import Allocator, Audit, Kernel, Process, Snapshot
from shadow.table.state import HugePages
from shadow.table.table import Table
from shadow.take_snapshot import take_snapshot
from tests.shadow.build import BASE, SLOT, EventScript

__all__ = ("host_view",)

_RELEASE, _POLICY = "6.18.0", Policy.PT_RECLAIM


def _snapshot(pid: int, comm: str, slots: int, emptied: int) -> Snapshot:
    """This many PTE pages, some of them emptied in halves and as many as a whole."""
    history = EventScript().map(BASE, (slots + emptied) * SLOT)
    history.touch(BASE, (slots + emptied) * SLOT, SLOT // 4)
    for slot in range(emptied):
        start = BASE + slot * SLOT
        history.dontneed(start, SLOT // 2).dontneed(start + SLOT // 2, SLOT // 2)
        history.dontneed(BASE + (slots + slot) * SLOT, SLOT)
    table = Table(running=_POLICY)
    table.feed(history.batch())
    facts = Facts(
        huge=HugePages(),
        process=Process(pid, comm, 100 + pid, f"/usr/bin/{comm}", Allocator("jemalloc", "5.3.0")),
        kernel=Kernel(_RELEASE, _POLICY.label, 4, 4096, "census"),
        vm_pte_kib=4 * (slots + 2),
        audit=Audit(runs=3, method="census", compared=slots - 1, not_compared=1, vmas_runs=3),
    )
    return take_snapshot(table, facts, 60_000_000_000)


def _process(number: int, *, followed: bool) -> HostProcess:
    pid, comm, slots = 1000 + number, f"server-{number}", 40 - 5 * number
    snapshot = _snapshot(pid, comm, slots, slots // 4) if followed else None
    return HostProcess(
        pid=pid,
        start_time=100 + pid,
        comm=comm,
        cgroup=f"/system.slice/{comm}.service" if number % 2 else "/",
        namespace_pid=pid,
        following="counted" if snapshot is None else "sampled" if number == 2 else "followed",
        watched=0.25 if number == 2 else float(followed),
        vm_pte_kib=4 * (slots + 2),
        snapshot=snapshot,
        events_per_second=1000.0 / (number + 1) if followed else 0.0,
        pte_pages_per_second=1.5 - number if followed else 0.0,
    )


def host_view(*, sees_events: bool = True) -> HostView:
    """Six processes: ptescope follows four of them, one of these only at times."""
    return HostView(
        time_ns=60_000_000_000,
        hostname="there",
        release=_RELEASE,
        policy=_POLICY.label,
        page_size=4096,
        processes=[_process(number, followed=number < 4) for number in range(6)],
        cost=Cost(
            cpu_seconds=3.5,
            memory_bytes=200 << 20,
            shadow_bytes=1 << 20,
            events=12_345,
            lost=2,
            ring_bytes=16 << 20,
            ring_used_bytes=4096,
            uncounted_forks=1,
            newest_event_ns=59_000_000_000,
            sees_events=sees_events,
        ),
        notes=["2 processes are only counted."],
    )
