"""jemalloc that purges what is freed at once, or nearly so: no call ever covers a slot."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Effect, Finding, within_a_factor_of_two
from shadow.advice.rules.jemalloc import (
    DEFAULT_DECAY_MS,
    SHORT_DECAY_MS,
    decay_ms,
    oversize_bytes,
    setting,
)
from shadow.whatif import held

__all__ = ("immediate_purge",)

_NS_PER_MS = 1_000_000


def immediate_purge(evidence: Evidence) -> Finding | None:
    """The frees are known exactly then, so the default decay can be played on them."""
    decay, purges = decay_ms(evidence), evidence.purges
    if (
        decay is None
        or not 0 <= decay < SHORT_DECAY_MS
        or evidence.snapshot.kernel.policy == "none"
    ):
        return None
    wait, limit = (DEFAULT_DECAY_MS - decay) * _NS_PER_MS, oversize_bytes(evidence)
    effect: Effect | None = None
    saved = None if limit is None else evidence.saved(lambda events: held(events, wait, limit))
    if saved is not None and saved <= 0:
        return None
    if saved is not None:
        effect = within_a_factor_of_two(
            saved,
            f"the purges of the window held {DEFAULT_DECAY_MS / 1000:g} s, merged as jemalloc "
            "merges, run through the shadow",
        )
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
            [setting(evidence, f"dirty_decay_ms:{DEFAULT_DECAY_MS}")],
        ),
        effect=effect,
        risks=[
            "Freed memory stays in RSS for up to that time.",
            "Fewer page faults and fewer madvise calls: it costs no speed.",
        ],
        verify="Restart with it, run the same load, wait 15 s at rest, then ptescope census.",
        source="jemalloc TUNING.md and man page (opt.dirty_decay_ms); commit 6375e95f381e",
    )
