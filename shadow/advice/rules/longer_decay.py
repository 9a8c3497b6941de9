# SPDX-License-Identifier: GPL-2.0-only
"""With a longer decay time, more memory merges before jemalloc purges it."""

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
    """Report this only if the window shows a saving even when jemalloc purges in steps."""
    decay = decay_ms(evidence)
    if decay is None or decay < SHORT_DECAY_MS or evidence.snapshot.kernel.policy == "none":
        return None
    longer = max(decay * _TIMES, DEFAULT_DECAY_MS)
    wait, limit = (longer - decay) * _NS_PER_MS, oversize_bytes(evidence)
    if limit is None:
        return None
    geometry = evidence.geometry
    least = evidence.saved(
        lambda events: delayed_purge(events, wait, limit, steps=True, geometry=geometry)
    )
    most = evidence.saved(lambda events: delayed_purge(events, wait, limit, geometry=geometry))
    if least is None or most is None or least < max(_WORTH * evidence.snapshot.now.empty, 1):
        return None
    return Finding(
        rule="longer_decay",
        title=f"jemalloc purges after {decay / 1000:g} s; a longer decay gives larger pieces",
        why=f"{evidence.snapshot.now.empty:,} PTE pages are empty, mostly at the edges of purges.",
        numbers={"dirty_decay_ms": decay, "empty": evidence.snapshot.now.empty},
        change=Change(
            f"Let freed memory wait {longer / 1000:g} s.",
            waiting(evidence, f"dirty_decay_ms:{longer}"),
        ),
        effect=within_a_factor_of_two(
            (least + max(least, most)) // 2,
            f"simulated: the purges of the window delayed by {wait / 1e9:g} s more; halfway "
            f"between {least:,}, if jemalloc purges in steps, and {most:,}, if it does not",
        ),
        risks=waiting_risks(evidence),
        verify="Restart with the setting, run the same load, stay idle for "
        f"{longer * 1.5 / 1000:g} s, run ptescope census.",
        source="jemalloc man page (opt.dirty_decay_ms); src/decay.c and src/extent.c of 5.3",
    )
