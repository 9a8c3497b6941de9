# SPDX-License-Identifier: GPL-2.0-only
"""gperftools that decommits each span as it is freed: no call ever covers a slot."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Effect, Finding, within_a_factor_of_two
from shadow.whatif import FOREVER, delayed_purge

__all__ = ("aggressive_decommit",)


def aggressive_decommit(evidence: Evidence) -> Finding | None:
    """Spans merge while they are free, and one call at rest releases them whole."""
    allocator = evidence.allocator
    if not evidence.runs("gperftools") or allocator is None:
        return None
    if allocator.option("aggressive_decommit") != "true":
        return None
    saved = evidence.saved(lambda events: delayed_purge(events, FOREVER))
    effect: Effect | None = None
    if saved is not None and saved <= 0:
        return None
    if saved is not None:
        effect = within_a_factor_of_two(
            saved, "the window's releases made in one go at its end, run through the shadow"
        )
    return Finding(
        rule="aggressive_decommit",
        title="aggressive decommit releases in pieces too small to free PTE pages",
        why=f"{evidence.snapshot.now.empty:,} PTE pages are empty.",
        numbers={"empty": evidence.snapshot.now.empty},
        change=Change(
            "Let free spans merge, and release them together when the program is at rest. The "
            "setting alone would keep the memory: both belong together.",
            [
                "TCMALLOC_AGGRESSIVE_DECOMMIT=f",
                "MallocExtension::instance()->ReleaseFreeMemory();  // when the load is over",
            ],
        ),
        effect=effect,
        risks=[
            "Free memory stays in RSS until that call.",
            "ReleaseFreeMemory holds the lock of the page heap while it works.",
        ],
        verify="Restart with it, run the same load, let it make the call, then ptescope census.",
        source="gperftools docs (TCMALLOC_AGGRESSIVE_DECOMMIT); src/page_heap.cc",
    )
