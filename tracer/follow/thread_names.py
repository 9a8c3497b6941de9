# SPDX-License-Identifier: GPL-2.0-only
"""The names of a process's threads, kept after they have ended.

A thread is looked up when its first event comes, since it may end soon, and once more a
moment later: pthread_setname_np comes after the thread's first page faults.
"""

import time
from pathlib import Path

import numpy as np

from shadow.events import EventBatch

__all__ = ("ThreadNames",)

_MOST = 4096
"""Threads whose names are kept: a trace carries them."""
_AGAIN_SECONDS = 0.5
_LONGEST = 64
"""A name has 15 characters, or more where the kernel's workers have descriptions."""


class ThreadNames:
    """The threads of one process.

    Args:
        pid: the process.
    """

    def __init__(self, pid: int) -> None:
        self._tasks = Path(f"/proc/{pid}/task")
        self._seen: set[int] = set()
        self._again: dict[int, float] = {}
        self._changed = False
        self.names: dict[int, str] = {}
        """By tid; of a tid that two threads had one after the other, the later one's."""

    def see(self, events: EventBatch) -> None:
        """Look up the threads whose first events these are."""
        for tid in set(np.unique(events["tid"]).tolist()) - self._seen:
            self._seen.add(tid)
            if tid and len(self.names) < _MOST:
                self._look_up(tid)
                self._again[tid] = time.monotonic() + _AGAIN_SECONDS

    def poll(self, *, last: bool = False) -> bool:
        """Look up again the threads whose names may have come since.

        Args:
            last: look up all that still run; the window ends.

        Returns:
            Whether names have changed since the last call.
        """
        now = time.monotonic()
        due = list(self.names) if last else [tid for tid, at in self._again.items() if at <= now]
        for tid in due:
            self._again.pop(tid, None)
            self._look_up(tid)
        changed, self._changed = self._changed, False
        return changed

    def _look_up(self, tid: int) -> None:
        try:
            name = (self._tasks / str(tid) / "comm").read_text(errors="replace")
        except OSError:  # it has ended
            return
        name = name.rstrip("\n")[:_LONGEST]
        self._changed |= self.names.get(tid) != name
        self.names[tid] = name
