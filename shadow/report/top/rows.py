# SPDX-License-Identifier: GPL-2.0-only
"""The columns of the table of processes, and its sort orders."""

from collections.abc import Callable, Iterable
from fnmatch import fnmatch

from shadow.escape import reporter
from shadow.family import grouped
from shadow.host_view import HostProcess
from shadow.policy import POLICIES, Policy
from shadow.report.format import share, size
from shadow.snapshot import Snapshot

__all__ = ("COLUMNS", "ORDERS", "by_name", "cells", "group_cells", "matches")

COLUMNS = (
    "pid", "name", "VmPTE", "empty", "of all", "lazyfree", "grows/min", "events/s",
    "saved by pt_reclaim", "by dontneed_zero", "by pte_ref", "watched", "allocator", "cgroup",
)  # fmt: skip

ORDERS: dict[str, Callable[[HostProcess], float]] = {
    "empty": lambda p: p.snapshot.now.empty if p.snapshot else -1,
    "size": lambda p: p.vm_pte_kib,
    "growth": lambda p: p.pte_pages_per_second,
    "events": lambda p: p.events_per_second,
}
"""Sort keys, largest first. Processes that are not followed come last, except by size."""

_UNKNOWN = "-"
_SAVING = tuple(policy.label for policy in POLICIES[1:])


def _saved(snapshot: Snapshot, policy: str) -> int:
    """Bytes of the PTE pages that exist now under `none` but not under this policy."""
    fewer = snapshot.policies[Policy.NONE.label].pte_pages - snapshot.policies[policy].pte_pages
    return fewer * snapshot.kernel.page_size


def _empty(snapshot: Snapshot) -> int:
    """Bytes of empty PTE pages."""
    return snapshot.now.empty * snapshot.kernel.page_size


def _lazy(snapshot: Snapshot) -> int:
    """Bytes of PTE pages with lazyfree entries only."""
    return (snapshot.now.lazyfree_only or 0) * snapshot.kernel.page_size


def _watched(process: HostProcess) -> str:
    if process.following == "sampled":
        return f"sampled {process.watched:.0%}"
    return process.following


@reporter
def cells(process: HostProcess) -> tuple[str, ...]:
    """The row of a process: one text for each of `COLUMNS`."""
    name = process.comm
    if process.namespace_pid != process.pid:
        name += f" [{process.namespace_pid}]"
    begin = (str(process.pid), name, size(process.vm_pte_kib << 10))
    if process.snapshot is None:
        unknown = (_UNKNOWN,) * (len(COLUMNS) - len(begin) - 2)
        return (*begin, *unknown[:-1], _watched(process), _UNKNOWN, process.cgroup)
    now, allocator = process.snapshot.now, process.snapshot.process.allocator
    return (
        *begin,
        size(_empty(process.snapshot)),
        share(now.empty, now.pte_pages),
        size(_lazy(process.snapshot)),
        f"{process.pte_pages_per_second * 60:+,.0f}",
        f"{process.events_per_second:,.0f}",
        *(size(_saved(process.snapshot, policy)) for policy in _SAVING),
        _watched(process),
        allocator.name if allocator else _UNKNOWN,
        process.cgroup,
    )


def by_name(processes: Iterable[HostProcess]) -> list[tuple[str, list[HostProcess]]]:
    """The processes, grouped by name."""
    return list(grouped(processes, lambda process: process.comm).items())


@reporter
def group_cells(name: str, members: list[HostProcess]) -> tuple[str, ...]:
    """The row of all processes with one name: their number and sums."""
    followed = [process.snapshot for process in members if process.snapshot]
    kib = sum(process.vm_pte_kib for process in members)
    begin = (f"{len(members)} x", name, size(kib << 10))
    watched = f"{len(followed)} of {len(members)}"
    if not followed:
        unknown = (_UNKNOWN,) * (len(COLUMNS) - len(begin) - 3)
        return (*begin, *unknown, watched, _UNKNOWN, _UNKNOWN)
    nows = [snapshot.now for snapshot in followed]
    empty, pages = sum(now.empty for now in nows), sum(now.pte_pages for now in nows)
    return (
        *begin,
        size(sum(map(_empty, followed))),
        share(empty, pages),
        size(sum(map(_lazy, followed))),
        f"{sum(process.pte_pages_per_second for process in members) * 60:+,.0f}",
        f"{sum(process.events_per_second for process in members):,.0f}",
        *(size(sum(_saved(each, policy) for each in followed)) for policy in _SAVING),
        watched,
        _UNKNOWN,
        _UNKNOWN,
    )


def matches(process: HostProcess, text: str) -> bool:
    """Whether the pid equals the text, or the name or cgroup contains it; `*` is a wildcard."""
    pattern = f"*{text}*"
    return str(process.pid) == text or any(
        fnmatch(each, pattern) for each in (process.comm, process.cgroup)
    )
