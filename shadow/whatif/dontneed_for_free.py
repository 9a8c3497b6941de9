# SPDX-License-Identifier: GPL-2.0-only
"""What-if: MADV_DONTNEED instead of MADV_FREE, which frees pages at once."""

from shadow.events import EventBatch, Kind
from shadow.uapi import MADV_DONTNEED

__all__ = ("dontneed_for_free",)


def dontneed_for_free(events: EventBatch) -> EventBatch:
    """The events under muzzy_decay_ms:0, purge_decommits=1 or madvdontneed=1."""
    changed = events.copy()
    free = changed["kind"] == Kind.FREE
    changed["kind"][free] = Kind.DONTNEED
    changed["aux"][free] = MADV_DONTNEED
    return changed
