# SPDX-License-Identifier: GPL-2.0-only
"""Guard pages and other boundaries that divide a slot, so that no call can cover it."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Finding, at_most

__all__ = ("split_slots",)

_MANY, _SHARE = 16, 0.1


def split_slots(evidence: Evidence) -> Finding | None:
    """Report divided slots: a zap ends at the end of a mapping, and so covers none of them."""
    slots, now = evidence.slots, evidence.snapshot.now
    if slots is None or slots.split < max(evidence.enough(_MANY), _SHARE * now.empty):
        return None
    size = evidence.geometry.slot_text
    return Finding(
        rule="split_slots",
        title="boundaries of mappings divide slots: no MADV_DONTNEED can free their PTE pages",
        why=f"{slots.split:,} of {now.empty:,} empty PTE pages lie under more than one mapping.",
        numbers={"split": slots.split, "empty": now.empty},
        change=Change(
            f"Align mappings to {size}, and put guard pages beside, not inside, the {size} that "
            "the program purges together. Unmap unused stacks and arenas."
        ),
        effect=at_most(slots.split, "counted; how many a new layout frees is unknown"),
        risks=["The alignment takes more address space."],
        verify="ptescope census --slots PID shows the mappings over each empty slot.",
        source="mm/madvise.c, madvise_walk_vmas; observed on 6.18 with a guard page per slot",
    )
