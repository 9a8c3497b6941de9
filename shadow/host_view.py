# SPDX-License-Identifier: GPL-2.0-only
"""What is known of a whole host at one moment, as plain data.

Metrics and screens see nothing else. All times are ns, all sizes in the unit that
the name says.
"""

from dataclasses import dataclass, field
from typing import Literal

from shadow.mappings import MappingUse
from shadow.snapshot import Snapshot

__all__ = ("Cost", "Tracking", "HostProcess", "HostView")

Tracking = Literal["followed", "sampled", "counted"]
"""How a process is watched.

- followed: every event, from a seed on.
- sampled: the same, but only part of the time, for want of CPU.
- counted: its VmPTE from /proc is all that is known; it is below the threshold, was
  not chosen, or there was no memory left to follow it.
"""


@dataclass(frozen=True)
class HostProcess:
    """One process.

    Attributes:
        pid: as the host numbers it.
        start_time: clock ticks after boot; with `pid` it names the process for good.
        comm: its name.
        cgroup: its cgroup v2 path, "/" if it is in none.
        namespace_pid: the pid that it has in its own pid namespace.
        following: how it is watched.
        watched: share of the time since it was found in which it was followed, 0 to 1.
        vm_pte_kib: VmPTE as the kernel states it when the view is made.
        snapshot: what its shadow says; None where it is only counted.
        events_per_second: of its events that came lately; 0 where it is only counted.
        pte_pages_per_second: by which its PTE pages grew or shrank lately.
        by_kind: its page tables by the kind of mapping that owns them, as they were when it
            was its turn to be looked at; empty where they were not asked for or are not known.
    """

    pid: int
    start_time: int
    comm: str
    cgroup: str
    namespace_pid: int
    following: Tracking
    watched: float
    vm_pte_kib: int
    snapshot: Snapshot | None
    events_per_second: float
    pte_pages_per_second: float
    by_kind: list[MappingUse] = field(default_factory=list)


@dataclass(frozen=True)
class Cost:
    """What the watching itself takes, and what it missed.

    Attributes:
        cpu_seconds: of this process since it began.
        memory_bytes: its resident memory.
        shadow_bytes: what the shadows take of it.
        events: taken since it began.
        lost: events that did not reach the ring since it began.
        ring_bytes: size of the ring.
        ring_used_bytes: filled when it was last looked at.
        uncounted_forks: processes that had ended before anything was known of them.
        newest_event_ns: when the newest event happened, CLOCK_MONOTONIC; 0: none came yet.
        sees_events: whether an event of its own, made to find out, came back lately.
        failures: how often a process was let go because of an error of ptescope itself.
    """

    cpu_seconds: float
    memory_bytes: int
    shadow_bytes: int
    events: int
    lost: int
    ring_bytes: int
    ring_used_bytes: int
    uncounted_forks: int
    newest_event_ns: int
    sees_events: bool
    failures: int = 0


@dataclass(frozen=True)
class HostView:
    """The host.

    Attributes:
        time_ns: of this view, CLOCK_MONOTONIC.
        hostname: its name.
        release: of its kernel.
        policy: by which that kernel frees PTE pages.
        processes: in no order.
        cost: of the watching.
        notes: what limits have made of it, in sentences.
        slots: entries of each PTE page of the process that was asked for, by the first
            address of its slot.
        slots_of: the pid of that process, if one was asked for.
    """

    time_ns: int
    hostname: str
    release: str
    policy: str
    processes: list[HostProcess]
    cost: Cost
    notes: list[str] = field(default_factory=list)
    slots: dict[int, int] = field(default_factory=dict)
    slots_of: int | None = None
