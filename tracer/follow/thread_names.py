# SPDX-License-Identifier: GPL-2.0-only
"""Keeps the names of the threads of a process, even after the threads have ended.

The probes report the name of a thread when it ends. ptescope looks up a running thread at its
first event, and again a moment later, because a thread can have page faults before it calls
pthread_setname_np.
"""

import struct
import time
from pathlib import Path

import numpy as np

from shadow.events import EventBatch, Kind

__all__ = ("ThreadNames",)

_MOST = 4096
"""The maximum number of names, because every trace contains them."""
_AGAIN_SECONDS = 0.5
_LONGEST = 64
"""The maximum length of a name: 15 characters for most threads, more for kernel workers."""


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
        self._next = 0.0
        self.names: dict[int, str] = {}
        """Names by tid; if two threads had the same tid, the name of the later thread."""

    @property
    def pending(self) -> bool:
        """Whether `poll` has work to do even without an event."""
        return bool(self._again) or self._changed

    def take(self, events: EventBatch) -> EventBatch:
        """Take the names of ended threads out of events; return the other events."""
        names = events["kind"] == Kind.THREAD
        if not names.any():
            return events
        for event in events[names]:
            name = struct.pack("<2Q", event["address"], event["length"])
            self._name(int(event["tid"]), name.split(b"\0")[0].decode(errors="replace"))
            self._seen.add(int(event["tid"]))
        others: EventBatch = events[~names]
        return others

    def see(self, events: EventBatch) -> None:
        """Look up threads at their first events."""
        for tid in set(np.unique(events["tid"]).tolist()) - self._seen:
            self._seen.add(tid)
            if tid and tid not in self.names:
                self._look_up(tid)
                self._again[tid] = time.monotonic() + _AGAIN_SECONDS

    def see_again(self) -> None:
        """Look up every thread again at its next event, because execve renames threads."""
        self._seen.clear()

    def poll(self, *, last: bool = False) -> bool:
        """Look up threads again that may have set their names in the meantime.

        Args:
            last: whether the window ends; `poll` then looks up all running threads.

        Returns:
            Whether names have changed; true at most twice a second.
        """
        now = time.monotonic()
        due = list(self.names) if last else [tid for tid, at in self._again.items() if at <= now]
        for tid in due:
            self._again.pop(tid, None)
            self._look_up(tid)
        if not self._changed or (now < self._next and not last):
            return False
        self._changed, self._next = False, now + _AGAIN_SECONDS
        return True

    def _look_up(self, tid: int) -> None:
        try:
            name = (self._tasks / str(tid) / "comm").read_text(errors="replace")
        except OSError:  # the thread has ended
            return
        self._name(tid, name.rstrip("\n")[:_LONGEST])

    def _name(self, tid: int, name: str) -> None:
        if self.names.get(tid) != name and (tid in self.names or len(self.names) < _MOST):
            self.names[tid], self._changed = name, True
