# SPDX-License-Identifier: GPL-2.0-only
"""The schedule of the daemon's audits."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from tracer.daemon.process_state import ProcessState

__all__ = ("Audits",)

_AUDIT_EVERY = 60.0
"""Seconds between two audits of a process that has had events."""
_CHECK_EVERY = 1.0
"""Seconds until the next check, if no audit was due."""
_CPU_SHARE = 0.02
"""Share of one CPU that audits may use; the next audit waits accordingly."""


class Audits:
    """Audits processes one at a time, the one that has waited longest first.

    Args:
        resting: whether a process is sampled and paused; a paused process is not audited.
        alone: a context manager that confines errors to one process.
    """

    def __init__(
        self,
        resting: Callable[[int], bool],
        alone: Callable[[int], AbstractContextManager[None]],
    ) -> None:
        self._resting, self._alone = resting, alone
        self._next = 0.0

    def run_due(self, followed: Mapping[int, ProcessState], now: float) -> None:
        """Audit a process, if an audit is due.

        Args:
            followed: the processes, by pid.
            now: monotonic seconds.
        """
        if now < self._next:
            return
        due = [
            process
            for pid, process in followed.items()
            if now - process.audited >= _AUDIT_EVERY
            and process.session.events > process.audited_events
            and not self._resting(pid)
        ]
        if not due:
            self._next = now + _CHECK_EVERY
            return
        oldest = min(due, key=lambda process: process.audited)
        begin = time.process_time()
        with self._alone(oldest.seen.pid):
            oldest.session.audit()
        oldest.audited, oldest.audited_events = now, oldest.session.events
        self._next = now + (time.process_time() - begin) / _CPU_SHARE

    def run_all(self, followed: Mapping[int, ProcessState]) -> None:
        """Audit every process that is not paused."""
        for pid, process in list(followed.items()):
            if not self._resting(pid):
                with self._alone(pid):
                    process.session.audit()
