# SPDX-License-Identifier: GPL-2.0-only
"""The progress of a command that follows processes: rows at intervals, and a status line."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from shadow.report.text import interval_header, interval_row, live_line
from shadow.table.counters import Counter
from tracer.follow.loop import Task
from tracer.follow.process_tree import ProcessTree
from tracer.terminal import say

__all__ = ("rows_at", "status_line")

_STATUS_EVERY = 0.25


def rows_at(interval: float, tree: ProcessTree, *, to_stderr: bool) -> Task:
    """Print the header of the rows; return a task that prints a row at each interval.

    Args:
        interval: seconds between rows.
        tree: the followed processes; the rows show the first one.
        to_stderr: whether to print to stderr, because stdout has other output.
    """
    rows = sys.stderr if to_stderr else sys.stdout
    say(interval_header(), to=rows)
    return Task(
        interval, lambda: say(interval_row(tree.sessions[0].snapshot(details=False)), to=rows)
    )


@contextmanager
def status_line(tree: ProcessTree) -> Iterator[list[Task]]:
    """Show a status line during the `with` block, if stderr is a terminal.

    Yields:
        The tasks that update the line, for the loop.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield []
        return
    with Live(console=console, transient=True, auto_refresh=False) as live:
        yield [
            Task(
                _STATUS_EVERY,
                lambda: live.update(Text(_status(tree)), refresh=True),
                at_once=True,
            )
        ]


def _status(tree: ProcessTree) -> str:
    session, others = tree.sessions[0], len(tree.sessions) - 1
    line = live_line(
        elapsed=(time.monotonic_ns() - session.start_ns) / 1e9,
        events=session.events,
        pte_pages=session.pte_pages,
        empty=session.empty,
        lost=session.table.counter(Counter.LOST),
    )
    return f"{line}  and {others} forked" if others else line
