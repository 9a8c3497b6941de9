# SPDX-License-Identifier: GPL-2.0-only
"""jemalloc that purges what is freed at once, or nearly so: no call ever covers a slot."""

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
    """Between what waiting brings where jemalloc purges in steps meanwhile, and where not.

    How much the steps take depends on how fast memory is freed. A process that purges
    without a pause is held up by that, and will free so fast that there are hardly any;
    one with pauses keeps its pace, and lies somewhere between.
    """
    limit, future = oversize_bytes(evidence), evidence.future
    if limit is None or future is None:
        return None
    most = evidence.saved(lambda events: delayed_purge(events, wait, limit))
    least = evidence.saved(lambda events: delayed_purge(events, wait, limit, steps=True))
    if least is None or most is None:
        return None
    share = share_of_close_purges(future.events)
    return within_a_factor_of_two(
        round(least + (most - least) * (1 + share) / 2),
        f"the purges of the window held {DEFAULT_DECAY_MS / 1000:g} s, run through the shadow: "
        f"between {least:,}, if jemalloc purges in steps meanwhile, and {most:,}, if it only "
        f"waits; {share:.0%} of the purges followed another at once",
    )


def immediate_purge(evidence: Evidence) -> Finding | None:
    """The frees are known exactly then, so the default decay can be played on them."""
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
            "Fewer page faults and fewer madvise calls: it costs no speed.",
        ],
        verify="Restart with it, run the same load, wait 15 s at rest, then ptescope census.",
        source="jemalloc TUNING.md and man page (opt.dirty_decay_ms); commit 6375e95f381e",
    )
