# SPDX-License-Identifier: GPL-2.0-only
"""jemalloc purges an extent at once when it reaches oversize_threshold, and so in pieces."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Finding, within_a_factor_of_two
from shadow.advice.rules.jemalloc import (
    SHORT_DECAY_MS,
    decay_ms,
    oversize_bytes,
    waiting,
    waiting_risks,
)
from shadow.whatif import delayed_purge

__all__ = ("oversize",)

_NS_PER_MS = 1_000_000
_WORTH = 0.1


def oversize(evidence: Evidence) -> Finding | None:
    """Simulate the purges of the window without the threshold."""
    decay, limit = decay_ms(evidence), oversize_bytes(evidence)
    if decay is None or decay < SHORT_DECAY_MS or not limit:
        return None
    if evidence.snapshot.kernel.policy == "none":
        return None
    saved = evidence.saved(
        lambda events: delayed_purge(events, decay * _NS_PER_MS, geometry=evidence.geometry)
    )
    if saved is None or saved < _WORTH * evidence.snapshot.now.empty or saved <= 0:
        return None
    return Finding(
        rule="oversize",
        title=f"jemalloc purges a free extent as soon as it reaches {limit >> 20} MiB",
        why=f"{evidence.snapshot.now.empty:,} PTE pages are empty; each such purge leaves an edge.",
        numbers={"oversize_threshold": limit, "empty": evidence.snapshot.now.empty},
        change=Change(
            "Disable the threshold: extents then merge without limit until their decay time is "
            "over, and large requests come from the ordinary arenas.",
            waiting(evidence, "oversize_threshold:0"),
        ),
        effect=within_a_factor_of_two(
            saved,
            f"simulated: the purges of the window delayed by {decay / 1000:g} s, and merged "
            "without that limit",
        ),
        risks=["Large buffers also wait for the decay time.", *waiting_risks(evidence)],
        verify="Restart with the setting, run the same load, stay idle for 1.5 decay times, run "
        "ptescope census.",
        source="jemalloc 5.3 src/extent.c, extent_record; man page (opt.oversize_threshold)",
    )
