# SPDX-License-Identifier: GPL-2.0-only
"""MADV_FREE frees pages only under memory pressure, and never their PTE pages."""

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
    return Change("Call MADV_DONTNEED where the program calls MADV_FREE.")


def _left_out(evidence: Evidence) -> list[str]:
    return left_out(evidence) if evidence.runs("jemalloc") else []


def lazy_free(evidence: Evidence) -> Finding | None:
    """Judge by the PTE pages with lazyfree entries only, or by the calls in the window."""
    now = evidence.snapshot.now
    lazy = now.lazyfree_only or 0
    calls = evidence.snapshot.window.events.get("free", 0)
    if not calls or lazy <= _FEW * now.pte_pages or decay_ms(evidence, "muzzy") == 0:
        return None
    saved = evidence.saved(dontneed_for_free)
    effect: Effect | None = None
    if saved is not None and saved > 0:
        effect = within_a_factor_of_two(
            saved, "simulated: each MADV_FREE of the window replaced by MADV_DONTNEED"
        )
    return Finding(
        rule="lazy_free",
        title="MADV_FREE keeps pages until memory is short, and never frees their PTE pages",
        why=f"{lazy:,} PTE pages map lazyfree pages only, after {calls:,} calls.",
        numbers={"lazyfree_only": lazy, "free_calls": calls},
        change=_change(evidence),
        effect=effect,
        risks=["Memory that the program reuses soon faults again.", *_left_out(evidence)],
        verify="Restart with the change, run the same load; ptescope attach shows 0 lazyfree only.",
        source="madvise(2), MADV_FREE; when reclaim takes lazyfree pages, the PTE page stays",
    )
