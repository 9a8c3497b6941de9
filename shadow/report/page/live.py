# SPDX-License-Identifier: GPL-2.0-only
"""The data of live pages: the host, and one of its processes, from a view of the host."""

from dataclasses import asdict
from typing import Any

from shadow.escape import valid
from shadow.host_view import HostProcess, HostView
from shadow.report.page.data import PageProcess, process_data
from shadow.snapshot import document

__all__ = ("host_data", "live_process_data")

_MOST = 500
"""Processes of the page, the most wasteful first."""


def _weight(process: HostProcess) -> tuple[int, int]:
    return process.snapshot.now.empty if process.snapshot else 0, process.vm_pte_kib


def host_data(view: HostView) -> dict[str, Any]:
    """The host as JSON: its processes as in `top`, the most wasteful first."""
    ranked = sorted(view.processes, key=_weight, reverse=True)
    snapshots = [process.snapshot for process in view.processes if process.snapshot]
    followed = [snapshot.now for snapshot in snapshots]
    plain = {
        "time_ns": view.time_ns,
        "hostname": view.hostname,
        "release": view.release,
        "policy": view.policy,
        "notes": view.notes,
        "cost": asdict(view.cost),
        "processes": [_row(process) for process in ranked[:_MOST]],
        "left_out": max(len(ranked) - _MOST, 0),
        "followed": len(followed),
        "page_size": view.page_size,
        "pte_pages": sum(now.pte_pages for now in followed),
        "empty": sum(now.empty for now in followed),
        "vm_pte_kib": sum(process.vm_pte_kib for process in view.processes),
    }
    return valid(plain)


def _row(process: HostProcess) -> dict[str, Any]:
    now = process.snapshot.now if process.snapshot else None
    return {
        "pid": process.pid,
        "comm": process.comm,
        "cgroup": process.cgroup,
        "following": process.following,
        "watched": process.watched,
        "vm_pte_kib": process.vm_pte_kib,
        "pte_pages": now.pte_pages if now else None,
        "empty": now.empty if now else None,
        "lost": process.snapshot.window.lost if process.snapshot else 0,
        "events_per_second": process.events_per_second,
        "pte_pages_per_second": process.pte_pages_per_second,
    }


def live_process_data(view: HostView, pid: int) -> dict[str, Any] | None:
    """One process as JSON; None: there is no such process.

    Args:
        view: a view that was made with the slots of this process.
        pid: the process.
    """
    found = next((process for process in view.processes if process.pid == pid), None)
    if found is None:
        return None
    plain: dict[str, Any] = {"hostname": view.hostname, "row": valid(_row(found))}
    if found.snapshot is None:
        return plain
    cells = [view.cells] if view.cells is not None and view.slots_of == pid else []
    more = PageProcess(0, [found.snapshot], cells, host=view.hostname)
    return plain | {
        "document": document([found.snapshot]),
        "more": process_data(more),
        "sources": [{"name": "this host, followed by the daemon", "problem": None}],
    }
