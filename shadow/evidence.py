"""Evidence for advice, of a process that was followed: live, or out of a trace."""

from dataclasses import replace

from shadow.advice import Evidence, Host, classify_slots
from shadow.follow import Following
from shadow.geometry import PAGE, SLOT
from shadow.table import Counter
from shadow.whatif import Future

__all__ = ("evidence_of",)

_THP = ("never", "madvise", "always")
"""By `HugePages.thp`."""
_UNSEEDED = "none"


def evidence_of(following: Following, now_ns: int, future: Future | None) -> Evidence:
    """What is known of a process at the end of a window.

    Args:
        following: the process; nothing is looked up but what it has.
        now_ns: see `Following.snapshot`.
        future: what was kept of the window's events.
    """
    facts, table = following.facts, following.table
    snapshot = following.snapshot(now_ns, slots=True)
    vmas, thp = following.vmas(), _THP[facts.huge.thp]
    host = Host(
        max_map_count=facts.max_map_count,
        thp=thp,
        resident=table.counter(Counter.REFS) * PAGE + table.counter(Counter.HUGE) * SLOT,
        vmas=len(vmas),
    )
    seeded = facts.kernel.seed != _UNSEEDED
    placed = seeded and facts.unplaced == 0 and snapshot.empty_slots is not None
    return Evidence(
        replace(snapshot, empty_slots=None),
        host,
        classify_slots(snapshot.empty_slots or [], vmas, thp) if placed else None,
        future,
        seeded=seeded,
        ended=facts.ended,
        redacted=facts.redacted,
    )
