# SPDX-License-Identifier: GPL-2.0-only
"""A run: events pumped until time is over, the process ends or the user stops it."""

import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from shadow.report.text import interval_header, interval_row, live_line
from shadow.table import Counter
from tracer.follow.process_tree import ProcessTree
from tracer.follow.session import Session
from tracer.process.launch import Launched
from tracer.terminal import say

__all__ = ("Stop", "follow")

_BUSY_WAIT, _IDLE_WAIT = 0.002, 0.05
"""Seconds between two looks at the ring: events come in, or nothing does."""


class Stop:
    """Set by SIGINT or SIGTERM: end the run with its report."""

    def __init__(self) -> None:
        self.asked = False
        self.also: Callable[[], bool] = lambda: False
        """Another reason to stop."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:  # a second time: at once, without a report
            raise SystemExit(128 + number)
        self.asked = True


def _status(session: Session, others: int) -> str:
    line = live_line(
        elapsed=(time.monotonic_ns() - session.start_ns) / 1e9,
        events=session.events,
        pte_pages=session.pte_pages,
        empty=session.empty,
        lost=session.table.counter(Counter.LOST),
    )
    return f"{line}  and {others} forked" if others else line


def follow(tree: ProcessTree, stop: Stop, args: Namespace, launched: Launched | None) -> None:
    """Pump events until it is over.

    Args:
        tree: the processes to follow.
        stop: set when the user has had enough.
        args: duration, interval, audit (seconds or None), json.
        launched: the program that was started for this.
    """
    begin = time.monotonic()
    deadline = begin + args.duration if args.duration else float("inf")
    tick = begin + args.interval if args.interval else float("inf")
    next_audit = begin + args.audit if args.audit else float("inf")
    first = tree.sessions[0]
    console = Console(stderr=True)
    rows = sys.stderr if args.json else sys.stdout
    with ExitStack() as stack:
        live = None
        if console.is_terminal:
            live = stack.enter_context(Live(console=console, transient=True, auto_refresh=False))
        if args.interval:
            say(interval_header(), to=rows)
        shown = 0.0
        while not (stop.asked or stop.also() or tree.ended()):
            got = tree.pump()
            now = time.monotonic()
            if launched:
                launched.ended()  # reap it; its EXIT event ends the run
            if now >= next_audit:
                tree.audit()
                next_audit = time.monotonic() + args.audit
            if now >= tick:
                say(interval_row(first.snapshot(mappings=False)), to=rows)
                tick += args.interval
            if live and now - shown >= 0.25:
                live.update(Text(_status(first, len(tree.sessions) - 1)), refresh=True)
                shown = now
            if now >= deadline:
                return
            time.sleep(min(_BUSY_WAIT if got else _IDLE_WAIT, max(deadline - now, 0)))
