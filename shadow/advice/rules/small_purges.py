# SPDX-License-Identifier: GPL-2.0-only
"""Purges below 2 MiB on a kernel that frees by whole slots: the edges, whoever makes them."""

from shadow.advice.evidence import Evidence, Purges
from shadow.advice.finding import Change, Effect, Finding, within_a_factor_of_two
from shadow.whatif import FOREVER, delayed_purge

__all__ = ("small_purges",)

_OWN_RULES = ("jemalloc", "gperftools")
_MANY = 0.1
"""Of all PTE pages: so many empty ones are told of where nothing can be predicted."""


def _stand_out(evidence: Evidence, purges: Purges) -> bool:
    """Whether many PTE pages are empty, and few of the calls could have freed one."""
    now = evidence.snapshot.now
    return now.empty > _MANY * now.pte_pages and 2 * purges.covering < purges.dontneed


def small_purges(evidence: Evidence) -> Finding | None:
    """For allocators and programs that have no rule of their own."""
    purges, now = evidence.purges, evidence.snapshot.now
    if evidence.snapshot.kernel.policy != "pt_reclaim" or evidence.runs(*_OWN_RULES):
        return None
    if purges is None or purges.dontneed == 0 or now.empty == 0:
        return None
    saved = evidence.saved(lambda events: delayed_purge(events, FOREVER))
    effect: Effect | None = None
    if saved is None:
        if not _stand_out(evidence, purges):
            return None
    elif saved <= 0:
        return None
    else:
        effect = within_a_factor_of_two(
            saved, "all releases of the window made in one go at its end, run through the shadow"
        )
    return Finding(
        rule="small_purges",
        title="MADV_DONTNEED in pieces that do not cover slots leaves their PTE pages",
        why=f"{purges.covering:,} of {purges.dontneed:,} calls covered a slot of 2 MiB; half of "
        f"them had {purges.median >> 10:,} KiB or less.",
        numbers={
            "dontneed": purges.dontneed,
            "covering": purges.covering,
            "median_bytes": purges.median,
            "empty": now.empty,
        },
        change=Change(
            "Put releases off until neighbours are free too, and make them in one call with both "
            "ends on multiples of 2 MiB. An iovec of process_madvise does not help: each of its "
            "parts is judged alone.",
        ),
        effect=effect,
        risks=["Memory stays in RSS until it is released."],
        verify="ptescope attach: `empty` under pt_reclaim comes near to that under pte_ref.",
        source="Linux commit 6375e95f381e (v6.14): one call must span the whole PTE page",
    )
