# SPDX-License-Identifier: GPL-2.0-only
"""gperftools with aggressive decommit releases each freed span, so no call covers a slot."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Effect, Finding, within_a_factor_of_two
from shadow.whatif import FOREVER, delayed_purge

__all__ = ("aggressive_decommit",)


def aggressive_decommit(evidence: Evidence) -> Finding | None:
    """Advise to let free spans merge, and to release them in one call when idle."""
    allocator = evidence.allocator
    if not evidence.runs("gperftools") or allocator is None:
        return None
    if allocator.option("aggressive_decommit") != "true":
        return None
    saved = evidence.saved(
        lambda events: delayed_purge(events, FOREVER, geometry=evidence.geometry)
    )
    effect: Effect | None = None
    if saved is not None and saved <= 0:
        return None
    if saved is not None:
        effect = within_a_factor_of_two(
            saved, "simulated: all releases of the window in one call at its end"
        )
    return Finding(
        rule="aggressive_decommit",
        title="aggressive decommit releases in pieces too small to free PTE pages",
        why=f"{evidence.snapshot.now.empty:,} PTE pages are empty.",
        numbers={"empty": evidence.snapshot.now.empty},
        change=Change(
            "Let free spans merge, and release them together when the program is idle. Use the "
            "setting and the call together: the setting alone would keep the memory.",
            [
                "TCMALLOC_AGGRESSIVE_DECOMMIT=f",
                "MallocExtension::instance()->ReleaseFreeMemory();  // when the load is over",
            ],
        ),
        effect=effect,
        risks=[
            "Free memory stays in RSS until the call.",
            "ReleaseFreeMemory holds the page heap lock while it runs.",
        ],
        verify="Restart with the change, run the same load up to the call, run ptescope census.",
        source="gperftools docs (TCMALLOC_AGGRESSIVE_DECOMMIT); src/page_heap.cc",
    )
