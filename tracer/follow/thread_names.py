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
import numpy.typing as npt

from shadow.events import EventBatch, Kind, kinds_of

__all__ = ("ThreadNames",)

_MOST = 4096
"""The maximum number of names, because every trace contains them."""
_AGAIN_SECONDS = 0.5
_FEW = 64
_LONGEST = 64
"""The maximum length of a name: 15 characters for most threads, more for kernel workers."""


def _name_in(event: np.void) -> str:
    """The name that an ending thread leaves in its event."""
    name = struct.pack("<2Q", event["address"], event["length"])
    return name.split(b"\0")[0].decode(errors="replace")


def _distinct(tids: npt.NDArray[np.uint32]) -> set[int]:
    """The distinct threads; a thread usually has many events in a row."""
    changes = np.flatnonzero(tids[1:] != tids[:-1])
    return set(tids[changes].tolist()) | set(tids[-1:].tolist())


class ThreadNames:
    """The threads of one process.

    Args:
        pid: the process.
    """

    def __init__(self, pid: int) -> None:
        self._tasks = Path(f"/proc/{pid}/task")
        self._running: set[int] = set()
        """Threads that were looked up and have not ended, so that the set stays small."""
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
        """Learn names from new events: look up new threads, and take out what ended ones leave.

        Returns:
            The events without those that only carry a name.
        """
        kinds = kinds_of(events)
        if Kind.EXEC in kinds:  # it renames the thread that is left
            self._running.clear()
        ended: dict[int, str] = {}
        if Kind.THREAD in kinds:
            names = events["kind"] == Kind.THREAD
            ended = {int(event["tid"]): _name_in(event) for event in events[names]}
            events = events[~names]
        new = _distinct(events["tid"]) - self._running - ended.keys() - {0}
        for tid in new:
            self._running.add(tid)
            self._look_up(tid)
            self._again[tid] = time.monotonic() + _AGAIN_SECONDS
        for tid, name in ended.items():
            self._name(tid, name)
            self._running.discard(tid)
            self._again.pop(tid, None)
        return events

    def poll(self, *, last: bool = False) -> bool:
        """Look up threads again that may have set their names in the meantime.

        Args:
            last: whether the window ends; `poll` then looks up all running threads.

        Returns:
            Whether names have changed; true at most twice a second, and the less often the
            more names there are, because a trace then takes all of them again.
        """
        now = time.monotonic()
        due = list(self.names) if last else [tid for tid, at in self._again.items() if at <= now]
        for tid in due:
            self._again.pop(tid, None)
            self._look_up(tid)
        if not self._changed or (now < self._next and not last):
            return False
        self._changed = False
        self._next = now + _AGAIN_SECONDS * (1 + len(self.names) / _FEW)
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
