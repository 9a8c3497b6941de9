# SPDX-License-Identifier: GPL-2.0-only
"""The course of time of the processes that a command follows, for its page."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tracer.follow.loop import Task
from tracer.follow.session import Session

if TYPE_CHECKING:  # only a page needs these
    from shadow.report.page.data import PageProcess
    from shadow.timeline import Timeline

__all__ = ("Courses",)

_EVERY = 0.25
"""Seconds between two points at the beginning of a run; see `shadow.timeline`."""


class Courses:
    """A timeline for each session.

    Args:
        sessions: returns the sessions so far.
    """

    def __init__(self, sessions: Callable[[], Sequence[Session]]) -> None:
        self._sessions = sessions
        self._timelines: dict[Session, Timeline] = {}

    def task(self) -> Task:
        """The task that takes the points while the loop follows."""
        return Task(_EVERY, self._note, at_once=True)

    def _of(self, session: Session) -> "Timeline":
        from shadow.timeline import Timeline

        crowd = len(self._sessions())
        return self._timelines.setdefault(session, Timeline(crowd))

    def _note(self) -> None:
        for session in self._sessions():
            if not session.ended:
                self._of(session).note(session.engine, time.monotonic_ns())

    def processes(self, sessions: Sequence[Session]) -> "list[PageProcess]":
        """The processes of a page, at their end."""
        from shadow.report.page.data import PageProcess

        pages = []
        for session in sessions:
            timeline = self._of(session)
            end_ns = session.engine.facts.end_ns
            timeline.end(session.engine, time.monotonic_ns() if end_ns is None else end_ns)
            pages.append(PageProcess.of_timeline(timeline))
        return pages
