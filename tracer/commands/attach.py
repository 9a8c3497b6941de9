"""`ptescope attach`: follow one process and report on its page tables."""

import json
import signal
import sys
import time
from argparse import REMAINDER, ArgumentParser, Namespace
from contextlib import ExitStack
from types import FrameType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from shadow.errors import UsageError
from shadow.report.text import interval_header, interval_row, live_line, render
from shadow.snapshot import document
from shadow.table import Counter, prepare
from tracer.census import open_reader
from tracer.family import Family
from tracer.kernel import kernel_facts
from tracer.launch import Launched
from tracer.probes import DEFAULT_RING, Probes
from tracer.rights import drop_rights
from tracer.session import Session
from tracer.target import find_by_name, open_target

__all__ = ("Attach",)

_BUSY_WAIT, _IDLE_WAIT = 0.002, 0.05
"""Seconds between two looks at the ring: events come in, or nothing does."""


class _Stop:
    """Set by SIGINT or SIGTERM: end the run with its report."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:  # a second time: at once, without a report
            raise SystemExit(128 + number)
        self.asked = True


def _seconds(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise ValueError(text)
    return value


def _ring_size(text: str) -> int:
    """Bytes of a ring given in KiB: a power of two of at least one page."""
    kib = int(text)
    if kib < 4 or kib & (kib - 1):
        raise ValueError(text)
    return kib << 10


class Attach:
    """Follow a process and report on its PTE pages.

    The process is neither stopped nor changed. The report comes when the time
    is over, when the process ends, or on Ctrl-C.
    """

    name = "attach"

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.usage = (
            "ptescope attach (-p PID | -n NAME | -- CMD ...) [-d SECONDS] [-i SECONDS] "
            "[--audit SECONDS] [-f] [--json] [--slots]"
        )
        parser.add_argument("-p", "--pid", type=int, help="the process to follow")
        parser.add_argument("-n", "--name", help="the process to follow, by its name")
        parser.add_argument(
            "-d", "--duration", type=_seconds, metavar="SECONDS", help="stop after this time"
        )
        parser.add_argument(
            "-i", "--interval", type=_seconds, metavar="SECONDS", help="a row each interval"
        )
        parser.add_argument(
            "--audit",
            type=_seconds,
            metavar="SECONDS",
            help="compare with the real page tables, and repair, each so many seconds",
        )
        parser.add_argument(
            "-f", "--follow", action="store_true", help="follow the processes that it forks, too"
        )
        parser.add_argument(
            "--json", action="store_true", help="print the report as JSON (schema 1)"
        )
        parser.add_argument("--slots", action="store_true", help="list the empty slots")
        parser.add_argument(
            "--ring",
            type=_ring_size,
            default=DEFAULT_RING,
            metavar="KIB",
            help="size of the ring buffer, a power of two (default: 16384)",
        )
        parser.add_argument("cmd", nargs=REMAINDER, metavar="-- CMD", help="start and follow this")

    def run(self, args: Namespace) -> int:
        """Carry it out; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        command = args.cmd[1:] if args.cmd[:1] == ["--"] else args.cmd
        if (args.pid is not None) + (args.name is not None) + bool(command) != 1:
            raise UsageError("Give one of -p PID, -n NAME, or -- CMD.")
        stop = _Stop()
        kernel = kernel_facts()
        launched = None
        if not command:
            pid = args.pid if args.pid is not None else find_by_name(args.name)
            open_target(pid)  # refuse before anything is loaded
        prepare()
        with ExitStack() as undo:
            probes = Probes(levels=kernel.levels, ring_bytes=args.ring)
            undo.callback(probes.close)
            reader = open_reader(kernel.levels)
            undo.callback(reader.close)
            if command:
                launched = Launched(command)
                undo.callback(launched.interrupt)
                pid = launched.pid
            family = Family(probes, kernel, reader, forks=args.follow)
            family.add(open_target(pid))
            drop_rights()
            if launched:
                launched.release()
            _follow(family, stop, args, launched)
            family.stop()
        reports = [session.snapshot(slots=args.slots) for session in family.sessions]
        if family.missed:
            print(
                f"ptescope: {family.missed} forked processes had ended before they were read",
                file=sys.stderr,
            )
        if args.json:
            json.dump(document(reports), sys.stdout)
            print()
        else:
            print("\n\n".join(map(render, reports)))
        return 0


def _status(session: Session, others: int) -> str:
    table = session.table
    running = table.running
    line = live_line(
        elapsed=(time.monotonic_ns() - session.start_ns) / 1e9,
        events=int(table.state.counters[Counter.EVENTS : Counter.EVENTS + 32].sum()),
        pte_pages=table.counter(Counter.TABLES + running) + session.unplaced,
        empty=table.counter(Counter.EMPTY + running) + session.unplaced,
        lost=table.counter(Counter.LOST),
    )
    return f"{line}  and {others} forked" if others else line


def _follow(family: Family, stop: _Stop, args: Namespace, launched: Launched | None) -> None:
    """Pump events until time is over, the process ends or the user stops it."""
    begin = time.monotonic()
    deadline = begin + args.duration if args.duration else float("inf")
    tick = begin + args.interval if args.interval else float("inf")
    next_audit = begin + args.audit if args.audit else float("inf")
    first = family.sessions[0]
    console = Console(stderr=True)
    rows = sys.stderr if args.json else sys.stdout
    with ExitStack() as stack:
        live = None
        if console.is_terminal:
            live = stack.enter_context(Live(console=console, transient=True, auto_refresh=False))
        if args.interval:
            print(interval_header(), file=rows, flush=True)
        shown = 0.0
        while not stop.asked and not family.ended():
            got = family.pump()
            now = time.monotonic()
            if launched:
                launched.ended()  # reap it; its EXIT event ends the run
            if now >= next_audit:
                family.audit()
                next_audit = time.monotonic() + args.audit
            if now >= tick:
                print(interval_row(first.snapshot()), file=rows, flush=True)
                tick += args.interval
            if live and now - shown >= 0.25:
                live.update(Text(_status(first, len(family.sessions) - 1)), refresh=True)
                shown = now
            if now >= deadline:
                return
            time.sleep(min(_BUSY_WAIT if got else _IDLE_WAIT, max(deadline - now, 0)))
