# SPDX-License-Identifier: GPL-2.0-only
"""fork also copies empty PTE pages."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Finding

__all__ = ("empty_on_fork",)

_MANY, _SHARE = 64, 0.1


def empty_on_fork(evidence: Evidence) -> Finding | None:
    """Report this if the process forked in the window."""
    now = evidence.snapshot.now
    forks = evidence.snapshot.window.events.get("fork", 0)
    if not forks or now.empty < max(evidence.enough(_MANY), _SHARE * now.pte_pages):
        return None
    more = now.empty * evidence.geometry.page
    return Finding(
        rule="empty_on_fork",
        title="each fork copies the empty PTE pages",
        why=f"{forks:,} forks in the window and {now.empty:,} empty PTE pages: each live child "
        f"has {more >> 10:,} KiB more.",
        numbers={"forks": forks, "empty": now.empty, "bytes_each": more},
        change=Change(
            "Every other finding that reduces empty PTE pages also helps fork. For children that "
            "call exec at once, use posix_spawn or vfork, which copy no page tables."
        ),
        risks=[],
        verify="Read VmPTE of the child in /proc/PID/status right after the fork.",
        source="mm/memory.c, copy_pte_range; observed on 6.18: the child has the empty ones too",
    )
