# SPDX-License-Identifier: GPL-2.0-only
"""The program's own call: one aligned MADV_DONTNEED over each of its empty slots."""

from shadow.advice.calls import dontneed_calls
from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Finding, exactly

__all__ = ("own_call",)

_LISTED = 100_000


def own_call(evidence: Evidence) -> Finding | None:
    """Report this for live processes: since 6.13, not even root can make the call for another."""
    slots = evidence.slots
    if slots is None or not slots.whole or evidence.ended:
        return None
    if not evidence.kernel_frees:
        return None
    known = [] if evidence.redacted else slots.whole
    calls = dontneed_calls([(slot, evidence.geometry.slot) for slot in known])
    return Finding(
        rule="own_call",
        title="the process can free its empty PTE pages itself, at once",
        why=f"{len(slots.whole):,} empty slots lie in one private anonymous mapping each.",
        numbers={"whole": len(slots.whole), "split": slots.split, "other": slots.other},
        change=Change(
            "From inside the process, call MADV_DONTNEED over each slot that maps nothing: "
            f"{evidence.geometry.slot_text}, "
            "aligned, about 1 us each. This is for the maintainers of the allocator, because only "
            "the allocator knows which memory is free.",
            calls,
        ),
        effect=exactly(
            len(slots.whole), "counted: empty now, whole in one mapping; slots may fill again"
        ),
        risks=[
            "THE RACE: a thread that writes to the slot between the look and the call loses "
            "what it wrote. The call is safe only over memory that the allocator holds free and "
            "keeps from being handed out until it returns.",
            "No other process can do it: process_madvise with MADV_DONTNEED fails with EINVAL.",
        ],
        slots=known[:_LISTED],
        verify="Run ptescope census PID before and after: empty falls by as much, RSS does not.",
        source="mm/memory.c, zap_pte_range (v6.14), also frees empty PTE pages; observed on 6.18",
    )
