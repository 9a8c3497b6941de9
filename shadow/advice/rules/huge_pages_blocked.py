# SPDX-License-Identifier: GPL-2.0-only
"""An empty PTE page stands where a huge page could come."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Finding

__all__ = ("huge_pages_blocked",)

_MANY = 16


def huge_pages_blocked(evidence: Evidence) -> Finding | None:
    """A fault takes a huge page only where there is no PTE page."""
    slots = evidence.slots
    if slots is None or slots.huge < evidence.enough(_MANY):
        return None
    return Finding(
        rule="huge_pages_blocked",
        title="empty PTE pages keep huge pages from coming",
        why=f"{slots.huge:,} empty slots could take a huge page at their next fault.",
        numbers={"blocked": slots.huge, "thp": evidence.host.thp},
        change=Change(
            "Free the empty PTE pages by one of the other changes; then the first touch of such a "
            "slot takes a huge page. khugepaged does not look at empty ones."
        ),
        risks=["A huge page is 2 MiB resident, however little of it is used."],
        verify="AnonHugePages in /proc/PID/smaps_rollup while it fills again.",
        source="mm/memory.c, __handle_mm_fault: a huge page needs an empty PMD entry; seen on 6.18",
    )
