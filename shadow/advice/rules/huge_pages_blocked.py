# SPDX-License-Identifier: GPL-2.0-only
"""An empty PTE page prevents a huge page."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Finding

__all__ = ("huge_pages_blocked",)

_MANY = 16


def huge_pages_blocked(evidence: Evidence) -> Finding | None:
    """Report slots where a fault could map a huge page, if they had no PTE page."""
    slots = evidence.slots
    if slots is None or slots.huge < evidence.enough(_MANY):
        return None
    size = evidence.geometry.slot_text
    return Finding(
        rule="huge_pages_blocked",
        title="empty PTE pages prevent huge pages",
        why=f"{slots.huge:,} empty slots could get a huge page at their next fault.",
        numbers={"blocked": slots.huge, "thp": evidence.host.thp},
        change=Change(
            "Free the empty PTE pages by one of the other changes; the next fault in such a slot "
            "then maps a huge page. khugepaged does not collapse empty PTE pages."
        ),
        risks=[f"A huge page takes {size} of RSS, even if the process uses little of it."],
        verify="Watch AnonHugePages in /proc/PID/smaps_rollup while memory fills again.",
        source="mm/memory.c, __handle_mm_fault: a huge page needs an empty PMD entry; seen on 6.18",
    )
