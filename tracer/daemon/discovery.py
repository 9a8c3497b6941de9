# SPDX-License-Identifier: GPL-2.0-only
"""The processes of the host as /proc has them, looked at as seldom as will do.

New ones are found by listing /proc; what each is, and how large its page tables are,
is read when it is new and every few seconds from then on, a part of them at a time.
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
"""Seconds between two looks at the same process."""
_SELDOM = 60.0
"""The same for one of which events tell."""
_LOOKING_SECONDS = 0.2
"""How long they are looked at in one go, before events are taken again."""
_STATUS = re.compile(r"^(Name|State|Threads|NSpid|VmPTE):\t *(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Seen:
    """A process as it was when it was looked at; fields as `shadow.host_view.HostProcess`."""

    pid: int
    start_time: int
    comm: str
    cgroup: str
    namespace_pid: int
    vm_pte_kib: int

    @property
    def identity(self) -> tuple[int, int]:
        """What no other process has, though pids are used again."""
        return self.pid, self.start_time


@dataclass(frozen=True)
class Selection:
    """Which processes are followed.

    Attributes:
        names: patterns of which the name must match one; empty: any name.
        cgroups: the same for the cgroup; a cgroup includes those below it.
        min_vmpte_kib: from which VmPTE on.
    """

    names: tuple[str, ...] = ()
    cgroups: tuple[str, ...] = ()
    min_vmpte_kib: int = 1024

    def takes(self, seen: Seen) -> bool:
        """Whether this process is to be followed."""
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
    """VmPTE; None: it has no address space."""
    if "VmPTE" in status:
        return int(status["VmPTE"].split()[0])
    if status["State"][0] in "ZX" and int(status["Threads"]) > 1:  # its main thread has ended
        return vm_pte_kib(pid)
    return None


def _look(pid: int) -> Seen | None:
    """The process; None: it has no address space, or it is gone."""
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
    except (OSError, ValueError, LookupError):  # it ended while it was read
        return None


class Processes:
    """What was seen last."""

    def __init__(self) -> None:
        self.seen: dict[int, Seen] = {}
        """By pid; those that have an address space."""
        self._looked: dict[int, float] = {}

    def look(self, now: float, seldom: Collection[int] = ()) -> None:
        """List them, and look at those that are new or were not looked at for some time.

        Where they are too many for one time the others' turn comes with the next call; new
        ones come first.

        Args:
            now: monotonic seconds.
            seldom: pids of those that need not be looked at so often.
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
            # Spread, so that not all are looked at again at once.
            spread = every[pid] * (pid % 16) / 64 if pid not in looked else 0
            looked[pid] = now - spread
            self.look_at(pid)
            if time.monotonic() > deadline:
                return

    def look_at(self, pid: int) -> Seen | None:
        """Look at one now."""
        seen = _look(pid)
        if seen is None:
            self.seen.pop(pid, None)
        else:
            self.seen[pid] = seen
        return seen
