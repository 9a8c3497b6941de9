# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope advise`: what to change so that a process has fewer empty PTE pages."""

import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console
from rich.progress import Progress

from shadow import replay, whatif
from shadow.advice import Evidence, advise, judge, limits
from shadow.advice.collect import evidence_of, evidence_of_trace
from shadow.advice.family import FamilyAdvice, JudgedProcess, advise_family
from shadow.errors import DamagedTraceError, NoSuchTargetError, PtescopeError, UsageError
from shadow.history import KEPT_EVENTS, History, HistoryStore
from shadow.plural import counted
from shadow.precompile import prepare
from shadow.report.advice import render_advice, render_family_advice
from shadow.snapshot import SCHEMA
from shadow.trace import TraceReader
from tracer.capabilities import drop_capabilities
from tracer.commands.argument_types import pid, seconds, whole
from tracer.commands.options import add_backend, add_max_memory
from tracer.commands.output import print_report
from tracer.follow.loop import Stop, follow
from tracer.follow.open_tracing import open_tracing, refuse_unread
from tracer.follow.session import LAST_PATIENCE_NS, Session
from tracer.kernel import kernel_facts
from tracer.process.find import find_all_by_name
from tracer.process.target import open_target
from tracer.terminal import complain

__all__ = ("AdviseCommand",)

_SECONDS = 30.0


@dataclass
class _Advised:
    """The advice on the processes of a run or of traces, as text and as JSON."""

    texts: list[str] = field(default_factory=list)
    processes: list[dict[str, Any]] = field(default_factory=list)
    families: list[dict[str, Any]] = field(default_factory=list)

    def add(self, found: Iterable[Evidence], *, detail: bool) -> None:
        """Advise on the processes of one run: those of one name as one."""
        judged: dict[str, list[JudgedProcess]] = {}
        for evidence in found:
            findings = judge(evidence)
            own = advise(evidence, findings)
            plain = evidence.snapshot.as_json()
            plain["advice"] = [finding.as_json() for finding in own]
            plain["advice_limits"] = limits(evidence)
            self.processes.append(plain)
            name = evidence.snapshot.process.comm
            if evidence.alike == 1:
                self.texts.append(render_advice(evidence, own, detail=detail))
            else:  # what it did is not needed any more
                member = JudgedProcess(replace(evidence, future=None), findings)
                judged.setdefault(name, []).append(member)
        for name, members in judged.items():
            self._add_family(advise_family(name, members), detail=detail)

    def _add_family(self, advice: FamilyAdvice, *, detail: bool) -> None:
        plain = advice.family.as_json()
        plain["advice"] = [finding.as_json() for finding in advice.findings]
        plain["advice_limits"] = advice.limits
        self.families.append(plain)
        self.texts.append(render_family_advice(advice, detail=detail))

    def show(self, args: Namespace) -> None:
        """Print it."""
        plain = {"schema": SCHEMA, "processes": self.processes}
        print_report(
            plain | {"families": self.families} if self.families else plain,
            lambda: "\n\n".join(self.texts),
            as_json=args.json,
        )


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
            "ptescope advise ((-p PID | -n NAME) [-d SECONDS] | TRACE ...) [--detail] [--json]\n"
            "                       [--keep EVENTS] [--max-memory SIZE] [--backend NAME]"
        )
        source = parser.add_argument_group("source", "Give PID or NAME, or one or more traces.")
        source.add_argument("-p", "--pid", type=pid, help="follow this process")
        source.add_argument(
            "-n", "--name", help="follow every process with this name, and advise on all as one"
        )
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
        if (args.pid is not None) + (args.name is not None) + bool(args.traces) != 1:
            raise UsageError("Give one of -p PID and TRACE, or -n NAME.")
        if args.traces and args.duration:
            raise UsageError("-d applies to -p PID and -n NAME only; a trace has its own end.")
        advised = _Advised()
        if not args.traces:
            pids = [args.pid] if args.name is None else find_all_by_name(args.name)
            advised.add(_follow(pids, args), detail=args.detail)
            advised.show(args)
            return 0
        urls = replay.find_traces(args.traces)
        prepare()
        whatif.prepare()
        problems = list[PtescopeError]()
        for url in urls:
            try:
                with replay.open_trace(url, args.max_memory) as reader:
                    problems += _of_trace(reader, args, advised)
            except PtescopeError as error:
                problems.append(error)
        if advised.processes:
            advised.show(args)
        for problem in problems:
            complain(problem)
        return problems[0].status if problems else 0


def _of_trace(reader: TraceReader, args: Namespace, advised: _Advised) -> list[DamagedTraceError]:
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
    advised.add(processes, detail=args.detail)
    return [damage] if damage else []


def _follow(pids: list[int], args: Namespace) -> Iterator[Evidence]:
    """Follow processes for the window; yields the evidence on each.

    Raises:
        PtescopeError: see the exit statuses of the output contract.
    """
    kernel, store = kernel_facts(), HistoryStore(args.keep)
    targets = [open_target(pid) for pid in pids]  # fail before anything is loaded
    followed = list[tuple[Session, History]]()
    with Stop() as stop, ExitStack() as undo:
        probes, reader = undo.enter_context(open_tracing(kernel, backend=args.backend))
        prepare()  # only now, as it may compile: following is allowed
        whatif.prepare()
        stop.listen()
        for target in targets:
            history = store.process()
            probes.add(target.pid)
            try:
                session = Session(target, probes, kernel, reader, history)
            except OSError as error:
                if len(targets) == 1:
                    message = f"Process {target.pid} has just ended."
                    raise NoSuchTargetError(message) from error
                continue  # one of many
            session.seed()
            refuse_unread(session)
            followed.append((session, history))
        drop_capabilities()
        complain(f"following {_named([session for session, _ in followed])}")
        sessions = [session for session, _ in followed]

        def pump() -> int:
            return sum(session.follow() for session in sessions if not session.ended)

        def over() -> bool:
            return stop() or all(session.ended for session in sessions)

        follow(pump, over, duration=args.duration or _SECONDS)
        for session, _ in followed:
            session.stop(LAST_PATIENCE_NS // len(followed))
    return _evidence(followed)


def _named(sessions: list[Session]) -> str:
    first = sessions[0].engine.facts.process
    if len(sessions) == 1:
        return f"{first.comm} (pid {first.pid})"
    return f"{first.comm}, {counted(len(sessions), 'process')}"


def _evidence(followed: list[tuple[Session, History]]) -> Iterator[Evidence]:
    now, known = time.monotonic_ns(), list[tuple[Session, History]]()
    for session, history in followed:
        facts = session.engine.facts
        if facts.ended and facts.kernel.seed == "none":
            problem = f"Process {facts.process.pid} ended before its page tables were read."
        else:
            known.append((session, history))
    if not known:
        raise NoSuchTargetError(problem)
    alike = Counter(session.engine.facts.process.comm for session, _ in known)
    for session, history in known:
        engine = session.engine
        yield evidence_of(engine, now, history.take(), alike[engine.facts.process.comm])
