"""`ptescope advise`: what to change so that a process has fewer empty PTE pages."""

import json
import signal
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from types import FrameType

from shadow.advice import Evidence, advise
from shadow.errors import UsageError
from shadow.report.advice import render_advice
from shadow.snapshot import document
from shadow.table import prepare
from tracer.census import open_reader
from tracer.evidence import collect
from tracer.keeping import KEPT_EVENTS, KeepingProbes
from tracer.kernel import kernel_facts
from tracer.rights import drop_rights
from tracer.session import Session
from tracer.target import open_target

__all__ = ("Advise",)

_SECONDS = 30.0
_BUSY_WAIT, _IDLE_WAIT = 0.002, 0.05


def _until_interrupted() -> threading.Event:
    """Set by Ctrl-C, which ends the window; a second one ends the command."""
    asked = threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        asked.set()

    signal.signal(signal.SIGINT, ask)
    return asked


class Advise:
    """Say what to change, what it saves, and what it costs.

    The process is followed for a while, under its usual load; what it purged is
    then run again under each change. It is neither stopped nor changed. Begin
    before the load that leaves empty PTE pages, and end when the process rests.
    """

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.add_argument("-p", "--pid", type=int, required=True, help="the process")
        parser.add_argument(
            "-d",
            "--duration",
            type=float,
            default=_SECONDS,
            metavar="SECONDS",
            help=f"how long to follow it, or until Ctrl-C (default: {_SECONDS:g})",
        )
        parser.add_argument(
            "--keep",
            type=int,
            default=KEPT_EVENTS,
            metavar="EVENTS",
            help=f"how many events to keep in memory, 40 bytes each (default: {KEPT_EVENTS:,})",
        )
        parser.add_argument("--detail", action="store_true", help="tell all that is known")
        parser.add_argument("--json", action="store_true", help="print JSON (schema 1)")

    def run(self, args: Namespace) -> int:
        """Carry it out; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        if not args.duration > 0 or args.keep < 0:
            raise UsageError("-d takes a number of seconds above 0, --keep a number of events.")
        evidence = self._follow(args)
        findings = advise(evidence)
        if args.json:
            plain = document([evidence.snapshot])
            plain["processes"][0]["advice"] = [finding.as_json() for finding in findings]
            json.dump(plain, sys.stdout)
            print()
        else:
            print(render_advice(evidence, findings, detail=args.detail))
        return 0

    def _follow(self, args: Namespace) -> Evidence:
        interrupted = _until_interrupted()
        kernel = kernel_facts()
        target = open_target(args.pid)  # refuse before anything is loaded
        prepare()
        with ExitStack() as undo:
            probes = KeepingProbes(levels=kernel.levels, most=args.keep)
            undo.callback(probes.close)
            reader = open_reader(kernel.levels)
            undo.callback(reader.close)
            probes.add(target.pid)
            session = Session(target, probes, kernel, reader)
            session.seed()
            probes.keep_from(session.table)
            drop_rights()
            deadline = time.monotonic() + args.duration
            while not (session.ended or interrupted.is_set()) and time.monotonic() < deadline:
                time.sleep(_BUSY_WAIT if session.pump() else _IDLE_WAIT)
            session.stop()
            return collect(session, kernel, probes.future())
