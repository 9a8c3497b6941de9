# SPDX-License-Identifier: GPL-2.0-only
"""jemalloc with a decay time near 0 purges at each free, so no call covers a slot."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Effect, Finding, within_a_factor_of_two
from shadow.advice.rules.jemalloc import (
    DEFAULT_DECAY_MS,
    SHORT_DECAY_MS,
    decay_ms,
    oversize_bytes,
    waiting,
    waiting_risks,
)
from shadow.whatif import delayed_purge, share_of_close_purges

__all__ = ("immediate_purge",)

_NS_PER_MS = 1_000_000


def _effect(evidence: Evidence, wait: int) -> Effect | None:
    """The effect of the default decay, between the results with and without decay steps.

    How much jemalloc purges in steps depends on how fast the program frees memory. Purging
    slows down a process that purges without pauses: under the change it frees so fast that
    few steps happen. A process with pauses keeps its pace, and its result lies between.
    """
    limit, future, geometry = oversize_bytes(evidence), evidence.future, evidence.geometry
    if limit is None or future is None:
        return None
    most = evidence.saved(lambda events: delayed_purge(events, wait, limit, geometry=geometry))
    least = evidence.saved(
        lambda events: delayed_purge(events, wait, limit, steps=True, geometry=geometry)
    )
    if least is None or most is None:
        return None
    share = share_of_close_purges(future.events)
    return within_a_factor_of_two(
        round(least + (most - least) * (1 + share) / 2),
        f"simulated: the purges of the window delayed by {DEFAULT_DECAY_MS / 1000:g} s; between "
        f"{least:,}, if jemalloc purges in steps in the meantime, and {most:,}, if it does not; "
        f"{share:.0%} of the purges followed another one immediately",
    )


def immediate_purge(evidence: Evidence) -> Finding | None:
    """Simulate the default decay: at such a short decay, the purges show the exact frees."""
    decay, purges = decay_ms(evidence), evidence.purges
    if (
        decay is None
        or not 0 <= decay < SHORT_DECAY_MS
        or evidence.snapshot.kernel.policy == "none"
    ):
        return None
    effect = _effect(evidence, (DEFAULT_DECAY_MS - decay) * _NS_PER_MS)
    if effect and effect.most <= 0:
        return None
    calls = f" {purges.covering:,} of {purges.dontneed:,} purges covered a slot." if purges else ""
    return Finding(
        rule="immediate_purge",
        title=f"dirty_decay_ms:{decay} purges in pieces too small to free PTE pages",
        why=f"{evidence.snapshot.now.empty:,} PTE pages are empty.{calls}",
        numbers={
            "dirty_decay_ms": decay,
            "empty": evidence.snapshot.now.empty,
            "purges": purges.dontneed if purges else 0,
            "covering": purges.covering if purges else 0,
        },
        change=Change(
            f"Let freed memory wait {DEFAULT_DECAY_MS / 1000:g} s, as jemalloc does by default, "
            "so that it merges before it is purged.",
            waiting(evidence, f"dirty_decay_ms:{DEFAULT_DECAY_MS}"),
        ),
        effect=effect,
        risks=[
            *waiting_risks(evidence),
            "No cost in speed: there are fewer page faults and fewer madvise calls.",
        ],
        verify="Restart with the setting, run the same load, wait 15 s idle, run ptescope census.",
        source="jemalloc TUNING.md and man page (opt.dirty_decay_ms); commit 6375e95f381e",
    )
