# SPDX-License-Identifier: GPL-2.0-only
"""Discover the processes of the host in /proc with few reads.

A listing of /proc shows new processes. Discovery reads the identity and VmPTE of a process when
it is new and every few seconds from then on, for some of the processes at a time.
"""

import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatch

import psutil

from tracer.procfs import cgroup_of, vm_pte_kib

__all__ = ("Selection", "Processes", "Seen", "within_cgroup")

_LOOK_EVERY = 10.0
"""Seconds between two reads of the same process."""
_SELDOM = 60.0
"""Seconds between two reads of a process that is followed by its events."""
_LOOKING_SECONDS = 0.2
"""Longest time for reads, seconds, before events are taken again."""
_STATUS = re.compile(r"^(Name|State|Threads|NSpid|VmPTE):\t *(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Seen:
    """A process at its last read; fields as in `shadow.host_view.HostProcess`."""

    pid: int
    start_time: int
    comm: str
    cgroup: str
    namespace_pid: int
    vm_pte_kib: int

    @property
    def identity(self) -> tuple[int, int]:
        """Pid and start time, which are unique although pids are reused."""
        return self.pid, self.start_time


@dataclass(frozen=True)
class Selection:
    """Which processes are followed.

    Attributes:
        names: patterns, one of which the name must match; empty: any name.
        cgroups: patterns for the cgroup; a cgroup includes its descendants; empty: any cgroup.
        min_vmpte_kib: smallest VmPTE.
    """

    names: tuple[str, ...] = ()
    cgroups: tuple[str, ...] = ()
    min_vmpte_kib: int = 1024

    def takes(self, seen: Seen) -> bool:
        """Whether the selection includes this process."""
        return (
            seen.vm_pte_kib >= self.min_vmpte_kib
            and (not self.names or any(fnmatch(seen.comm, name) for name in self.names))
            and (
                not self.cgroups
                or any(within_cgroup(seen.cgroup, cgroup) for cgroup in self.cgroups)
            )
        )


def within_cgroup(cgroup: str, pattern: str) -> bool:
    """Whether a cgroup matches a pattern, or lies below one that does."""
    pattern = pattern.rstrip("/")
    return fnmatch(cgroup, pattern) or fnmatch(cgroup, pattern + "/*")


def _text(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/{name}", errors="replace") as file:
        return file.read()


def _vm_pte_kib(pid: int, status: dict[str, str]) -> int | None:
    """VmPTE; None: the process has no address space."""
    if "VmPTE" in status:
        return int(status["VmPTE"].split()[0])
    if status["State"][0] in "ZX" and int(status["Threads"]) > 1:  # the main thread has ended
        return vm_pte_kib(pid)
    return None


def _look(pid: int) -> Seen | None:
    """Read a process; None: it has no address space, or it has ended."""
    try:
        status = dict(_STATUS.findall(_text(pid, "status")))
        vm_pte = _vm_pte_kib(pid, status)
        if vm_pte is None:
            return None
        stat = _text(pid, "stat")
        return Seen(
            pid=pid,
            start_time=int(stat[stat.rindex(")") + 2 :].split()[19]),
            comm=status["Name"],
            cgroup=cgroup_of(pid),
            namespace_pid=int(status.get("NSpid", str(pid)).split()[-1]),
            vm_pte_kib=vm_pte,
        )
    except (OSError, ValueError, LookupError):  # the process ended during the read
        return None


class Processes:
    """The processes of the host at their last reads."""

    def __init__(self) -> None:
        self.seen: dict[int, Seen] = {}
        """By pid; only processes with an address space."""
        self._looked: dict[int, float] = {}

    def look(self, now: float, seldom: Collection[int] = ()) -> None:
        """List the processes, and read those that are new or due.

        New processes come first. If the time runs out, the next call reads the rest.

        Args:
            now: monotonic seconds.
            seldom: pids of processes that need fewer reads.
        """
        there = set(psutil.pids())
        for pid in (self._looked.keys() | self.seen.keys()) - there:
            self._looked.pop(pid, None)
            self.seen.pop(pid, None)
        deadline = time.monotonic() + _LOOKING_SECONDS
        looked = self._looked
        every = {pid: _SELDOM if pid in seldom else _LOOK_EVERY for pid in there}
        due = [pid for pid in there if now - looked.get(pid, -_SELDOM) >= every[pid]]
        for pid in sorted(due, key=lambda pid: looked.get(pid, -_SELDOM)):
            # Spread the reads, so that not all are due at once.
            spread = every[pid] * (pid % 16) / 64 if pid not in looked else 0
            looked[pid] = now - spread
            self.look_at(pid)
            if time.monotonic() > deadline:
                return

    def look_at(self, pid: int) -> Seen | None:
        """Read one process now."""
        seen = _look(pid)
        if seen is None:
            self.seen.pop(pid, None)
        else:
            self.seen[pid] = seen
        return seen
