# SPDX-License-Identifier: GPL-2.0-only
"""The gaps between purges, which show whether purging slowed a process down."""

import numpy as np

from shadow.events import EventBatch, Kind

__all__ = ("share_of_close_purges",)

_PAUSE_NS = 100_000
"""A thread that purges again within this time did little else in the meantime."""


def share_of_close_purges(events: EventBatch) -> float:
    """The share of purges, 0 to 1, that followed a purge of the same thread without a pause.

    Args:
        events: (n,) of `EVENT`, in order.
    """
    purges = events[events["kind"] == Kind.DONTNEED]
    if len(purges) == 0:
        return 0.0
    purges = purges[np.argsort(purges["tid"], kind="stable")]
    same_thread = purges["tid"][1:] == purges["tid"][:-1]
    gaps = np.diff(purges["time"].astype(np.int64))
    return float(np.count_nonzero(same_thread & (gaps < _PAUSE_NS)) / len(purges))
