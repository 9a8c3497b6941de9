# SPDX-License-Identifier: GPL-2.0-only
"""MADV_FREE replaced by MADV_DONTNEED: pages go at once, not when memory is short."""

from shadow.events import EventBatch, Kind

__all__ = ("dontneed_for_free",)

_MADV_DONTNEED = 4


def dontneed_for_free(events: EventBatch) -> EventBatch:
    """What muzzy_decay_ms:0, purge_decommits=1 or madvdontneed=1 would have done."""
    changed = events.copy()
    free = changed["kind"] == Kind.FREE
    changed["kind"][free] = Kind.DONTNEED
    changed["aux"][free] = _MADV_DONTNEED
    return changed
