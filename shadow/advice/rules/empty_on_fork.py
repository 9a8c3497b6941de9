# SPDX-License-Identifier: GPL-2.0-only
"""fork copies empty PTE pages too."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Finding
from shadow.geometry import PAGE

__all__ = ("empty_on_fork",)

_MANY, _SHARE = 64, 0.1


def empty_on_fork(evidence: Evidence) -> Finding | None:
    """Judge by the forks of the window."""
    now = evidence.snapshot.now
    forks = evidence.snapshot.window.events.get("fork", 0)
    if not forks or now.empty < max(evidence.enough(_MANY), _SHARE * now.pte_pages):
        return None
    return Finding(
        rule="empty_on_fork",
        title="each fork copies the empty PTE pages",
        why=f"{forks:,} forks in the window, {now.empty:,} empty PTE pages: "
        f"{now.empty * PAGE >> 10:,} KiB more for each child that lives.",
        numbers={"forks": forks, "empty": now.empty, "bytes_each": now.empty * PAGE},
        change=Change(
            "Whatever else here empties less helps fork as well; for helpers that call exec "
            "at once use posix_spawn or vfork, which copy no page tables."
        ),
        risks=[],
        verify="VmPTE of the child in /proc/PID/status right after the fork.",
        source="mm/memory.c, copy_pte_range; observed on 6.18: a child gets them empty too",
    )
