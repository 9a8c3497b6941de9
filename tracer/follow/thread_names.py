# SPDX-License-Identifier: GPL-2.0-only
"""The names of a process's threads, kept after they have ended.

The probes report the name of a thread when it ends. One that runs is looked up when its first
event comes, and once more a moment later: pthread_setname_np comes after the thread's first
page faults.
"""

import struct
import time
from pathlib import Path

import numpy as np

from shadow.events import EventBatch, Kind

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
        self._next = 0.0
        self.names: dict[int, str] = {}
        """By tid; of a tid that two threads had one after the other, the later one's."""

    @property
    def pending(self) -> bool:
        """Whether `poll` has something to do although no event comes."""
        return bool(self._again) or self._changed

    def take(self, events: EventBatch) -> EventBatch:
        """Take the names that ending threads leave; returns the other events."""
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
        """Look up the threads whose first events these are."""
        for tid in set(np.unique(events["tid"]).tolist()) - self._seen:
            self._seen.add(tid)
            if tid and tid not in self.names:
                self._look_up(tid)
                self._again[tid] = time.monotonic() + _AGAIN_SECONDS

    def see_again(self) -> None:
        """Look up every thread at its next event: execve has renamed what is left."""
        self._seen.clear()

    def poll(self, *, last: bool = False) -> bool:
        """Look up again the threads whose names may have come since.

        Args:
            last: look up all that still run, because the window ends.

        Returns:
            Whether names have changed, at most twice a second.
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
        except OSError:  # it has ended
            return
        self._name(tid, name.rstrip("\n")[:_LONGEST])

    def _name(self, tid: int, name: str) -> None:
        if self.names.get(tid) != name and (tid in self.names or len(self.names) < _MOST):
            self.names[tid], self._changed = name, True
