# SPDX-License-Identifier: GPL-2.0-only
"""Purges smaller than slots on a kernel that frees whole slots only, by any allocator."""

from shadow.advice.evidence import Evidence, Purges
from shadow.advice.finding import Change, Effect, Finding, within_a_factor_of_two
from shadow.whatif import FOREVER, delayed_purge

__all__ = ("small_purges",)

_OWN_RULES = ("jemalloc", "gperftools")
_MANY = 0.1
"""Least share of empty PTE pages for a finding without a prediction."""


def _stand_out(evidence: Evidence, purges: Purges) -> bool:
    """Whether many PTE pages are empty, and most of the calls could not free one."""
    now = evidence.snapshot.now
    return now.empty > _MANY * now.pte_pages and 2 * purges.covering < purges.dontneed


def small_purges(evidence: Evidence) -> Finding | None:
    """Report this for allocators and programs without a specific rule."""
    purges, now, geometry = evidence.purges, evidence.snapshot.now, evidence.geometry
    if evidence.snapshot.kernel.policy != "pt_reclaim" or evidence.runs(*_OWN_RULES):
        return None
    if purges is None or purges.dontneed == 0 or now.empty == 0:
        return None
    saved = evidence.saved(lambda events: delayed_purge(events, FOREVER, geometry=geometry))
    effect: Effect | None = None
    if saved is None:
        if not _stand_out(evidence, purges):
            return None
    elif saved <= 0:
        return None
    else:
        effect = within_a_factor_of_two(
            saved, "simulated: all releases of the window in one call at its end"
        )
    return Finding(
        rule="small_purges",
        title="MADV_DONTNEED in pieces smaller than slots leaves empty PTE pages",
        why=f"{purges.covering:,} of {purges.dontneed:,} calls covered a slot of "
        f"{geometry.slot_text}; the median call had {purges.median >> 10:,} KiB.",
        numbers={
            "dontneed": purges.dontneed,
            "covering": purges.covering,
            "median_bytes": purges.median,
            "empty": now.empty,
        },
        change=Change(
            "Delay releases until the neighbours are free too, and release them in one call with "
            f"both ends on multiples of {geometry.slot_text}. An iovec of process_madvise does not "
            "help, because the kernel applies the rule to each part separately.",
        ),
        effect=effect,
        risks=["Memory stays in RSS until its release."],
        verify="In ptescope attach, `empty` under pt_reclaim approaches `empty` under pte_ref.",
        source="Linux commit 6375e95f381e (v6.14): one call must span the whole PTE page",
    )
