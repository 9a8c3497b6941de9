# SPDX-License-Identifier: GPL-2.0-only
"""Empty PTE pages under shared mappings: one call frees them, and there is no race."""

from itertools import pairwise

from shadow.advice.calls import dontneed_calls
from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Finding, exactly

__all__ = ("shared_emptied",)

_LISTED = 100_000


def _joined(slots: list[int], size: int) -> list[tuple[int, int]]:
    """First address and length of each run of slots of this size that touch."""
    breaks = [i for i, (one, next_) in enumerate(pairwise(slots), 1) if next_ != one + size]
    starts = [0, *breaks]
    ends = [*breaks, len(slots)]
    return [(slots[a], (b - a) * size) for a, b in zip(starts, ends, strict=True)]


def shared_emptied(evidence: Evidence) -> Finding | None:
    """Judge by the empty slots that one shared mapping covers."""
    slots = evidence.slots
    if slots is None or not slots.shared or evidence.ended:
        return None
    if not evidence.kernel_frees:
        return None
    found, size = slots.shared, evidence.geometry.slot
    known = [] if evidence.redacted else found
    return Finding(
        rule="shared_emptied",
        title="PTE pages of shared mappings are empty: one call frees them, without a race",
        why=f"{len(found):,} empty slots lie in one shared mapping each, whose data stays in its "
        "file or shared memory.",
        numbers={"shared": len(found), "ranges": len(_joined(found, size))},
        change=Change(
            "In each process that maps it, call MADV_DONTNEED over the whole mapping, or only "
            "over what is empty. No data can be lost: what a thread writes meanwhile is in the "
            "file or shared memory, and comes back with the next fault.",
            dontneed_calls(_joined(known, size)) if known else [],
        ),
        effect=exactly(len(found), "counted: empty now, whole in one shared mapping"),
        risks=[
            "Over the whole mapping, pages in use are faulted in again: a minor fault each.",
            "Not for MAP_PRIVATE, where the call discards changes.",
            "The call has to cover whole slots: ends on multiples of "
            f"{evidence.geometry.slot_text}.",
        ],
        slots=known[:_LISTED],
        verify="VmPTE in /proc/PID/status before and after the call; ptescope census PID.",
        source="madvise(2), MADV_DONTNEED; mm/memory.c, zap_pte_range (v6.14); seen on 6.18",
    )
