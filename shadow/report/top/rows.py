# SPDX-License-Identifier: GPL-2.0-only
"""What a line of the table says of a process, and by what lines can be sorted."""

from collections.abc import Callable
from fnmatch import fnmatch

from shadow.escape import reporter
from shadow.host_view import HostProcess
from shadow.report.format import share, size
from shadow.units import KIB_PER_PAGE

__all__ = ("COLUMNS", "ORDERS", "cells", "matches")

COLUMNS = (
    "pid", "name", "VmPTE", "empty", "of all", "lazyfree", "grows/min", "events/s",
    "saved by pt_reclaim", "by pte_ref", "watched", "allocator", "cgroup",
)  # fmt: skip

ORDERS: dict[str, Callable[[HostProcess], float]] = {
    "empty": lambda p: p.snapshot.now.empty if p.snapshot else -1,
    "size": lambda p: p.vm_pte_kib,
    "growth": lambda p: p.pte_pages_per_second,
    "events": lambda p: p.events_per_second,
}
"""Largest first; what is only counted comes after what is followed."""

_UNKNOWN = "-"


def _saved(process: HostProcess, policy: str) -> str:
    """PTE pages that the policy would not have now, beside those of none."""
    assert process.snapshot
    policies = process.snapshot.policies
    return size(policies["none"].pte_pages - policies[policy].pte_pages)


def _watched(process: HostProcess) -> str:
    if process.following == "sampled":
        return f"sampled {process.watched:.0%}"
    return process.following


@reporter
def cells(process: HostProcess) -> tuple[str, ...]:
    """A line: one text for each of `COLUMNS`."""
    name = process.comm
    if process.namespace_pid != process.pid:
        name += f" [{process.namespace_pid}]"
    begin = (str(process.pid), name, size(process.vm_pte_kib // KIB_PER_PAGE))
    if process.snapshot is None:
        unknown = (_UNKNOWN,) * (len(COLUMNS) - len(begin) - 2)
        return (*begin, *unknown[:-1], _watched(process), _UNKNOWN, process.cgroup)
    now, allocator = process.snapshot.now, process.snapshot.process.allocator
    return (
        *begin,
        size(now.empty),
        share(now.empty, now.pte_pages),
        size(now.lazyfree_only or 0),
        f"{process.pte_pages_per_second * 60:+,.0f}",
        f"{process.events_per_second:,.0f}",
        _saved(process, "pt_reclaim"),
        _saved(process, "pte_ref"),
        _watched(process),
        allocator.name if allocator else _UNKNOWN,
        process.cgroup,
    )


def matches(process: HostProcess, text: str) -> bool:
    """Whether the name, the cgroup or the pid is what was asked for; `*` stands for anything."""
    pattern = f"*{text}*"
    return str(process.pid) == text or any(
        fnmatch(each, pattern) for each in (process.comm, process.cgroup)
    )
