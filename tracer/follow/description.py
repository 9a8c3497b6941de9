# SPDX-License-Identifier: GPL-2.0-only
"""Look up the identity and the allocators of a process in the background.

The lookup reads the images of a process, which takes up to a second. One thread does it for all
sessions, so that every session continues to take events.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

from shadow.snapshot import Process
from tracer.process.target import Target

__all__ = ("Description",)


@cache
def _worker() -> ThreadPoolExecutor:
    """The thread for all lookups. It starts after capabilities are dropped."""
    return ThreadPoolExecutor(1, "describe")


class Description:
    """The background lookup of one process.

    Args:
        target: the process.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._due_at = 0.0
        self._lookup: Future[Process] | None = None

    @property
    def pending(self) -> bool:
        """Whether a lookup is scheduled or running, so that `poll` must be called again."""
        return bool(self._due_at or self._lookup)

    def schedule(self, seconds: float) -> None:
        """Start a lookup at the first `poll` after this time."""
        self._due_at = time.monotonic() + seconds

    def poll(self) -> Process | None:
        """Start the lookup when it is due, or collect its result.

        Returns:
            The process, once, when the lookup has ended.

        Raises:
            Exception: whatever the lookup raised. The images belong to the process, so no
                error in reading them is impossible.
        """
        if self._due_at and time.monotonic() > self._due_at:
            self._due_at = 0.0
            self._lookup = _worker().submit(self._target.describe)
        if self._lookup is None or not self._lookup.done():
            return None
        lookup, self._lookup = self._lookup, None
        return lookup.result()

    def cancel(self) -> None:
        """Drop the lookup, unless it runs already."""
        if self._lookup:
            self._lookup.cancel()
