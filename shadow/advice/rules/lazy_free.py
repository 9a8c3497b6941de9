# SPDX-License-Identifier: GPL-2.0-only
"""MADV_FREE postpones: pages go when memory is short, their PTE pages never."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Effect, Finding, within_a_factor_of_two
from shadow.advice.rules.jemalloc import decay_ms, left_out, setting
from shadow.whatif import dontneed_for_free

__all__ = ("lazy_free",)

_FEW = 0.05


def _change(evidence: Evidence) -> Change | None:
    if evidence.runs("jemalloc"):
        return Change("Purge at once instead.", [setting(evidence, "muzzy_decay_ms:0")])
    if evidence.runs("mimalloc") and evidence.allocator is not None:
        read = evidence.allocator.variables
        name = "MIMALLOC_PURGE_DECOMMITS" if "MIMALLOC_PURGE_DECOMMITS" in read else None
        return Change("Purge with MADV_DONTNEED.", [f"{name}=1"]) if name else None
    if evidence.runs("Go"):
        return Change("Purge with MADV_DONTNEED.", ["GODEBUG=madvdontneed=1"])
    return Change("Purge with MADV_DONTNEED where the program calls MADV_FREE.")


def _left_out(evidence: Evidence) -> list[str]:
    return left_out(evidence) if evidence.runs("jemalloc") else []


def lazy_free(evidence: Evidence) -> Finding | None:
    """Judge by PTE pages that hold nothing but such pages, or by the calls of the window."""
    now = evidence.snapshot.now
    lazy = now.lazyfree_only or 0
    calls = evidence.snapshot.window.events.get("free", 0)
    if not calls or lazy <= _FEW * now.pte_pages or decay_ms(evidence, "muzzy") == 0:
        return None
    saved = evidence.saved(dontneed_for_free)
    effect: Effect | None = None
    if saved is not None and saved > 0:
        effect = within_a_factor_of_two(
            saved, "MADV_FREE of the window taken for MADV_DONTNEED, run through the shadow"
        )
    return Finding(
        rule="lazy_free",
        title="MADV_FREE keeps pages until memory is short, and their PTE pages for good",
        why=f"{lazy:,} PTE pages hold lazyfree pages only, after {calls:,} calls.",
        numbers={"lazyfree_only": lazy, "free_calls": calls},
        change=_change(evidence),
        effect=effect,
        risks=["Memory that is used again soon is faulted in again.", *_left_out(evidence)],
        verify="Restart with it, run the same load; `lazyfree only` is 0 in ptescope attach.",
        source="madvise(2), MADV_FREE; when reclaim takes such pages nothing frees the PTE page",
    )
