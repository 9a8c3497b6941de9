# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope advise`: what to change so that a process has fewer empty PTE pages."""

import time
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import Progress

from shadow import replay, whatif
from shadow.advice import Evidence, Finding, advise, limits
from shadow.advice.collect import evidence_of, evidence_of_trace
from shadow.errors import DamagedTraceError, NoSuchTargetError, PtescopeError, UsageError
from shadow.history import KEPT_EVENTS, HistoryStore
from shadow.report.advice import render_advice
from shadow.snapshot import SCHEMA
from shadow.table import prepare
from shadow.trace import TraceReader
from tracer.capabilities import drop_capabilities
from tracer.commands.argument_types import pid, seconds, whole
from tracer.commands.options import add_backend, add_max_memory
from tracer.commands.output import print_report
from tracer.follow.loop import Stop, follow
from tracer.follow.open_tracing import open_tracing, refuse_unread
from tracer.follow.session import Session
from tracer.kernel import kernel_facts
from tracer.process.target import open_target
from tracer.terminal import complain

__all__ = ("AdviseCommand",)

_SECONDS = 30.0


@dataclass(frozen=True)
class _Advised:
    """The advice on one process in both forms; its events are not kept."""

    text: str
    plain: dict[str, Any]


def _advised(evidence: Evidence, args: Namespace) -> _Advised:
    findings: list[Finding] = advise(evidence)
    plain = evidence.snapshot.as_json()
    plain["advice"] = [finding.as_json() for finding in findings]
    plain["advice_limits"] = limits(evidence)
    return _Advised(render_advice(evidence, findings, detail=args.detail), plain)


class AdviseCommand:
    """Say what to change, what it saves, and what it costs.

    A process is followed for a while, under its usual load; what it purged is then
    run again under each change. It is neither stopped nor changed. Begin before the
    load that leaves empty PTE pages, and end when the process rests. A trace is
    judged likewise by what is in it, without any rights, on any machine.
    """

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.usage = (
            "ptescope advise (-p PID [-d SECONDS] | TRACE ...) [--keep EVENTS] [--detail] [--json]"
        )
        parser.add_argument("-p", "--pid", type=pid, help="the process")
        parser.add_argument(
            "-d",
            "--duration",
            type=seconds,
            metavar="SECONDS",
            help=f"how long to follow it, or until Ctrl-C (default: {_SECONDS:g})",
        )
        parser.add_argument(
            "traces",
            nargs="*",
            metavar="TRACE",
            help="a trace, a folder of *.arrows, a pattern, or a URL of these",
        )
        parser.add_argument(
            "--keep",
            type=whole,
            default=KEPT_EVENTS,
            metavar="EVENTS",
            help="how many events to keep in memory, 40 bytes each, of all processes of a trace "
            f"together (default: {KEPT_EVENTS:,})",
        )
        add_max_memory(parser)
        add_backend(parser)
        parser.add_argument("--detail", action="store_true", help="tell all that is known")
        parser.add_argument("--json", action="store_true", help="print JSON (schema 1)")

    def run(self, args: Namespace) -> int:
        """Carry it out; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        if (args.pid is not None) + bool(args.traces) != 1:
            raise UsageError("Give one of -p PID and TRACE.")
        if args.traces and args.duration:
            raise UsageError("-d is for a process that is followed; a trace has its own end.")
        if args.pid is not None:
            _print([_advised(_follow(args), args)], args)
            return 0
        urls = replay.find_traces(args.traces)
        prepare()
        whatif.prepare()
        advised = list[_Advised]()
        problems = list[PtescopeError]()
        for url in urls:
            try:
                with replay.open_trace(url, args.max_memory) as reader:
                    problems += _of_trace(reader, args, advised)
            except PtescopeError as error:
                problems.append(error)
        if advised:
            _print(advised, args)
        for problem in problems:
            complain(problem)
        return problems[0].status if problems else 0


def _of_trace(
    reader: TraceReader, args: Namespace, advised: list[_Advised]
) -> list[DamagedTraceError]:
    """Add advice on each process of a trace; returns why these are not all, if so."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("replaying", total=reader.size)
        processes, damage = evidence_of_trace(
            reader,
            args.keep,
            args.max_memory,
            lambda done: bar.update(task, completed=done),
        )
    advised += [_advised(evidence, args) for evidence in processes]
    return [damage] if damage else []


def _print(advised: list[_Advised], args: Namespace) -> None:
    print_report(
        {"schema": SCHEMA, "processes": [each.plain for each in advised]},
        lambda: "\n\n".join(each.text for each in advised),
        as_json=args.json,
    )


def _follow(args: Namespace) -> Evidence:
    """Follow a process; returns the evidence on it.

    Raises:
        PtescopeError: see the exit statuses of the output contract.
    """
    kernel = kernel_facts()
    target = open_target(args.pid)  # refuse before anything is loaded
    kept = HistoryStore(args.keep).process()
    with Stop() as stop, ExitStack() as undo:
        probes, reader = undo.enter_context(open_tracing(kernel, backend=args.backend))
        prepare()  # when it is known that we may follow
        whatif.prepare()
        stop.listen()
        probes.add(target.pid)
        try:
            session = Session(target, probes, kernel, reader, kept)
        except OSError as error:
            raise NoSuchTargetError(f"Process {target.pid} has just ended.") from error
        session.seed()
        refuse_unread(session)
        drop_capabilities()
        complain(f"following {session.engine.facts.process.comm} (pid {target.pid})")
        follow(session.follow, lambda: session.ended or stop(), duration=args.duration or _SECONDS)
        session.stop()
    evidence = evidence_of(session.engine, time.monotonic_ns(), kept.take())
    if evidence.ended and not evidence.seeded:
        raise NoSuchTargetError(f"Process {target.pid} ended before anything was known of it.")
    return evidence
