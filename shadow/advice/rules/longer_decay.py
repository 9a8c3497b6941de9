# SPDX-License-Identifier: GPL-2.0-only
"""A longer decay time: more merges before it is purged."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Finding, within_a_factor_of_two
from shadow.advice.rules.jemalloc import (
    DEFAULT_DECAY_MS,
    SHORT_DECAY_MS,
    decay_ms,
    oversize_bytes,
    waiting,
    waiting_risks,
)
from shadow.whatif import delayed_purge

__all__ = ("longer_decay",)

_TIMES = 3
_NS_PER_MS = 1_000_000
_WORTH = 0.1


def longer_decay(evidence: Evidence) -> Finding | None:
    """Judge only where the window shows that it helps even though jemalloc purges in steps."""
    decay = decay_ms(evidence)
    if decay is None or decay < SHORT_DECAY_MS or evidence.snapshot.kernel.policy == "none":
        return None
    longer = max(decay * _TIMES, DEFAULT_DECAY_MS)
    wait, limit = (longer - decay) * _NS_PER_MS, oversize_bytes(evidence)
    if limit is None:
        return None
    least = evidence.saved(lambda events: delayed_purge(events, wait, limit, steps=True))
    most = evidence.saved(lambda events: delayed_purge(events, wait, limit))
    if least is None or most is None or least < max(_WORTH * evidence.snapshot.now.empty, 1):
        return None
    return Finding(
        rule="longer_decay",
        title=f"freed memory waits {decay / 1000:g} s; longer, and more is purged in one piece",
        why=f"{evidence.snapshot.now.empty:,} PTE pages are empty, edges of purges mostly.",
        numbers={"dirty_decay_ms": decay, "empty": evidence.snapshot.now.empty},
        change=Change(
            f"Let it wait {longer / 1000:g} s.", waiting(evidence, f"dirty_decay_ms:{longer}")
        ),
        effect=within_a_factor_of_two(
            (least + max(least, most)) // 2,
            f"the purges of the window held {wait / 1e9:g} s longer, run through the shadow: "
            f"halfway between {least:,}, if it purges in steps, and {most:,}, if it only waits",
        ),
        risks=waiting_risks(evidence),
        verify=f"Restart with it, run the same load, wait {longer * 1.5 / 1000:g} s at rest, "
        "then ptescope census.",
        source="jemalloc man page (opt.dirty_decay_ms); src/decay.c and src/extent.c of 5.3",
    )
