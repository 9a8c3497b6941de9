# SPDX-License-Identifier: GPL-2.0-only
"""The state of a whole host at one moment, as plain data.

Metrics and screens use nothing else. Times are in ns. Field names end in the unit of a size.
"""

from dataclasses import dataclass, field
from typing import Literal

from shadow.cells import Cells
from shadow.mappings import MappingUse
from shadow.snapshot import Snapshot

__all__ = ("Cost", "Tracking", "HostProcess", "HostView")

Tracking = Literal["followed", "sampled", "counted"]
"""How ptescope tracks a process.

- followed: ptescope seeds a shadow and applies every event.
- sampled: like followed, but only part of the time, to save CPU.
- counted: ptescope only reads VmPTE from /proc, because VmPTE is below the threshold, the
  process was not selected, or the memory limit is reached.
"""


@dataclass(frozen=True)
class HostProcess:
    """One process.

    Attributes:
        pid: its pid on the host.
        start_time: clock ticks after boot; unique together with `pid`.
        comm: its name.
        cgroup: its cgroup v2 path, "/" if it is in none.
        namespace_pid: its pid in its own pid namespace.
        following: how ptescope tracks it.
        watched: the share of the time since its discovery in which it was followed, 0 to 1.
        vm_pte_kib: VmPTE that the kernel reports at the time of the view.
        snapshot: the snapshot of its shadow; None if the process is only counted.
        events_per_second: the recent rate of events; 0 if the process is only counted.
        pte_pages_per_second: the recent change of its PTE pages.
        by_kind: its page tables by the kind of the owning mapping, at its last turn; empty if
            unknown or not requested.
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
    """The cost, losses and failures of ptescope itself, since its start.

    Attributes:
        cpu_seconds: CPU time of ptescope.
        memory_bytes: resident memory of ptescope.
        shadow_bytes: memory of all shadows, part of the resident memory.
        events: the number of events read from the ring.
        lost: the number of events that did not reach the ring.
        ring_bytes: the size of the ring.
        ring_used_bytes: bytes in the ring at its last reading.
        uncounted_forks: the number of forked processes that ended before ptescope read them.
        newest_event_ns: the time of the newest event, CLOCK_MONOTONIC; 0: no event yet.
        sees_events: whether the self-test event was seen recently.
        failures: the number of processes that ptescope stopped following because of an
            internal error.
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
        time_ns: the time of this view, CLOCK_MONOTONIC.
        hostname: the name of the host.
        release: its kernel release.
        policy: the policy by which its kernel frees PTE pages.
        page_size: bytes of a page.
        processes: its processes, unordered.
        cost: the cost of ptescope itself.
        notes: sentences on limits that affect this view.
        slots: the number of entries of each PTE page of the process `slots_of`, by the first
            address of the slot.
        slots_of: the pid of the process whose slots were requested; None: none.
        cells: more about the same slots; None: unknown.
    """

    time_ns: int
    hostname: str
    release: str
    policy: str
    page_size: int
    processes: list[HostProcess]
    cost: Cost
    notes: list[str] = field(default_factory=list)
    slots: dict[int, int] = field(default_factory=dict)
    slots_of: int | None = None
    cells: Cells | None = None
