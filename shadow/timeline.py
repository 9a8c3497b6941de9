# SPDX-License-Identifier: GPL-2.0-only
"""What a process did over time: a bounded number of points, and of moments in full.

A caller reports the state of an engine at regular times. A timeline keeps the counts of each
policy as points, and at some of them a snapshot with its cells. When there are too many, it drops
every other one and takes half as many from then on. So a run of any length fits in memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from shadow.cells import Cells
from shadow.engine import Engine
from shadow.policy import POLICIES
from shadow.records import Facts
from shadow.replay.span import Span
from shadow.snapshot import Snapshot
from shadow.table.counters import Counter
from shadow.take_cells import cells_of

__all__ = ("POINTS", "Moment", "Point", "Timeline", "Timelines")

POINTS = 240
"""The number of points of a run whose length is known."""
_MOST = 2 * POINTS
_APART = 4
"""Points from one moment to the next."""
_PAGES = 8192
"""For each so many PTE pages, moments are a point further apart: a moment copies all of them."""

_SHORTEST = 1e-6
"""Seconds between two points, of a trace whose records have one time."""


@dataclass(frozen=True)
class Point:
    """The counts at one time (ns, CLOCK_MONOTONIC), of each policy in the order of `POLICIES`."""

    time_ns: int
    pte_pages: tuple[int, ...]
    empty: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Moment:
    """The whole state at one time."""

    snapshot: Snapshot
    cells: Cells


class Timeline:
    """The points and moments of one process.

    Args:
        crowd: the number of processes that are followed together; with more of them, each has
            fewer moments.

    Attributes:
        facts: the facts about the process at the last call; None: there was none.
    """

    def __init__(self, crowd: int = 1) -> None:
        self.points: list[Point] = []
        self.moments: list[Moment] = []
        self.facts: Facts | None = None
        self._apart = _APART * (1 + crowd // 8)
        self._stride, self._calls, self._left = 1, 0, 0

    def note(self, engine: Engine, now_ns: int) -> None:
        """Take the state at a regular time, unless it is one too many."""
        self._calls += 1
        if (self._calls - 1) % self._stride:
            return
        self._add_point(engine, now_ns)
        if self._left:
            self._left -= 1
        else:
            self._add_moment(engine, now_ns)
        if len(self.points) >= _MOST:
            self.points, self.moments = self.points[::2], self.moments[::2]
            self._stride *= 2

    def end(self, engine: Engine, now_ns: int) -> None:
        """Take the last state, whenever it comes."""
        if self.points and self.points[-1].time_ns >= now_ns:
            self.points.pop()
        if self.moments and self.moments[-1].snapshot.window.end_ns >= now_ns:
            self.moments.pop()
        self._add_point(engine, now_ns)
        self._add_moment(engine, now_ns)

    def _add_point(self, engine: Engine, now_ns: int) -> None:
        self.facts, counters = engine.facts, engine.table.state.counters
        pages = (int(counters[Counter.TABLES + policy]) for policy in POLICIES)
        empty = (int(counters[Counter.EMPTY + policy]) for policy in POLICIES)
        self.points.append(Point(now_ns, tuple(pages), tuple(empty)))

    def _add_moment(self, engine: Engine, now_ns: int) -> None:
        cells = cells_of(engine)
        self.moments.append(Moment(engine.snapshot(now_ns), cells))
        self._left = self._apart - 1 + len(cells.slots) // _PAGES


class Timelines:
    """The timelines of the processes of a trace, by their number in it.

    Args:
        span: how long the trace is, and how many processes it has.

    Attributes:
        interval: seconds between two calls of `note` for a process.
    """

    def __init__(self, span: Span) -> None:
        self.interval = max(span.seconds / POINTS, _SHORTEST)
        self._crowd = span.processes
        self._timelines: dict[int, Timeline] = {}

    def note(self, number: int, engine: Engine, now_ns: int) -> None:
        """Take the state of a process at a regular time."""
        self._of(number).note(engine, now_ns)

    def end(self, number: int, engine: Engine, now_ns: int) -> None:
        """Take the last state of a process."""
        self._of(number).end(engine, now_ns)

    def _of(self, number: int) -> Timeline:
        return self._timelines.setdefault(number, Timeline(self._crowd))

    def __iter__(self) -> Iterator[Timeline]:
        """The timelines in the order of the processes of the trace."""
        return (timeline for _, timeline in sorted(self._timelines.items()))
