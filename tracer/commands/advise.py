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
    """The advice on one process, as text and as JSON; its history is no longer needed."""

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

    ptescope follows a process under its usual load, and then replays its purges under each
    proposed change. It neither stops nor changes the process. Start before the load that leaves
    empty PTE pages, and stop once the process is idle. Advice from a trace needs no rights.
    """

    example = "ptescope advise -p $(pidof redis-server) -d 60"

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.usage = (
            "ptescope advise (-p PID [-d SECONDS] | TRACE ...) [--detail] [--json]\n"
            "                       [--keep EVENTS] [--max-memory SIZE] [--backend NAME]"
        )
        source = parser.add_argument_group("source", "Give PID, or one or more traces.")
        source.add_argument("-p", "--pid", type=pid, help="follow this process")
        source.add_argument(
            "-d",
            "--duration",
            type=seconds,
            metavar="SECONDS",
            help=f"follow it for this time, or until Ctrl-C (default: {_SECONDS:g})",
        )
        source.add_argument(
            "traces",
            nargs="*",
            metavar="TRACE",
            help="a trace, a folder of *.arrows, a pattern, or a URL of these",
        )
        report = parser.add_argument_group("report")
        report.add_argument(
            "--detail",
            action="store_true",
            help="show all risks, the basis of each number, how to verify, and sources",
        )
        report.add_argument(
            "--json", action="store_true", help="print the advice as JSON (schema 1)"
        )
        limits = parser.add_argument_group("memory and probes")
        limits.add_argument(
            "--keep",
            type=whole,
            default=KEPT_EVENTS,
            metavar="EVENTS",
            help="events to keep in memory, 40 bytes each, for all processes of a trace together "
            f"(default: {KEPT_EVENTS:,})",
        )
        add_max_memory(limits)
        add_backend(limits)

    def run(self, args: Namespace) -> int:
        """Run the command; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        if (args.pid is not None) + bool(args.traces) != 1:
            raise UsageError("Give one of -p PID and TRACE.")
        if args.traces and args.duration:
            raise UsageError("-d applies to -p PID only; a trace has its own end.")
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
    """Add advice on each process of a trace; returns the damage of the trace, if any."""
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
    """Follow a process for the window; returns the evidence.

    Raises:
        PtescopeError: see the exit statuses of the output contract.
    """
    kernel = kernel_facts()
    target = open_target(args.pid)  # fail before anything is loaded
    kept = HistoryStore(args.keep).process()
    with Stop() as stop, ExitStack() as undo:
        probes, reader = undo.enter_context(open_tracing(kernel, backend=args.backend))
        prepare()  # only now, as it may compile: following is allowed
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
        raise NoSuchTargetError(f"Process {target.pid} ended before its page tables were read.")
    return evidence
