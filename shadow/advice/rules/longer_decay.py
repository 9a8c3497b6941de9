"""A longer decay time: more merges before it is purged."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Finding, within_a_factor_of_two
from shadow.advice.rules.jemalloc import SHORT_DECAY_MS, decay_ms, oversize_bytes, setting
from shadow.whatif import held

__all__ = ("longer_decay",)

_TIMES = 3
_NS_PER_MS = 1_000_000
_WORTH = 0.1


def longer_decay(evidence: Evidence) -> Finding | None:
    """Judge only where the window shows that it would help."""
    decay = decay_ms(evidence)
    if decay is None or decay < SHORT_DECAY_MS or evidence.snapshot.kernel.policy == "none":
        return None
    longer = decay * _TIMES
    wait = (longer - decay) * _NS_PER_MS
    saved = evidence.saved(lambda events: held(events, wait, oversize_bytes(evidence)))
    if saved is None or saved < _WORTH * evidence.snapshot.now.empty or saved <= 0:
        return None
    return Finding(
        rule="longer_decay",
        title=f"freed memory waits {decay / 1000:g} s; longer, and more is purged in one piece",
        why=f"{evidence.snapshot.now.empty:,} PTE pages are empty, edges of purges mostly.",
        numbers={"dirty_decay_ms": decay, "empty": evidence.snapshot.now.empty},
        change=Change(
            f"Let it wait {longer / 1000:g} s.", [setting(evidence, f"dirty_decay_ms:{longer}")]
        ),
        effect=within_a_factor_of_two(
            saved, f"the purges of the window held {wait / 1e9:g} s longer, run through the shadow"
        ),
        risks=["Freed memory stays in RSS for up to that time."],
        verify=f"Restart with it, run the same load, wait {longer * 1.5 / 1000:g} s at rest, "
        "then ptescope census.",
        source="jemalloc man page (opt.dirty_decay_ms); src/extent.c of 5.3",
    )
