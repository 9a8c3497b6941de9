# SPDX-License-Identifier: GPL-2.0-only
"""The course of time of the processes that a command follows, for its page."""

import time
from collections.abc import Sequence
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
    """A timeline for each session."""

    def __init__(self) -> None:
        self._timelines: dict[Session, Timeline] = {}

    def task(self, sessions: Sequence[Session]) -> Task:
        """The task that takes the points while the loop follows.

        Args:
            sessions: the sessions; more may be added to them.
        """
        return Task(_EVERY, lambda: self._note(sessions), at_once=True)

    def _note(self, sessions: Sequence[Session]) -> None:
        for session in sessions:
            if not session.ended:
                timeline = self._of(session, len(sessions))
                timeline.note(session.engine, time.monotonic_ns())

    def _of(self, session: Session, crowd: int) -> "Timeline":
        from shadow.timeline import Timeline

        return self._timelines.setdefault(session, Timeline(crowd))

    def processes(self, sessions: Sequence[Session]) -> "list[PageProcess]":
        """The processes of a page, at their end."""
        from shadow.report.page.data import PageProcess

        pages = []
        for session in sessions:
            timeline = self._of(session, len(sessions))
            end_ns = session.engine.facts.end_ns
            timeline.end(session.engine, time.monotonic_ns() if end_ns is None else end_ns)
            pages.append(PageProcess.of_timeline(timeline))
        return pages
