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
from shadow.report.advice import render_advice, render_family_advice
from shadow.snapshot import SCHEMA
from shadow.table import prepare
from shadow.trace import TraceReader
from tracer.capabilities import drop_capabilities
from tracer.commands.argument_types import pid, seconds, whole
from tracer.commands.options import add_backend, add_max_memory
from tracer.follow.loop import Stop
from tracer.follow.open_tracing import open_tracing, refuse_unread
from tracer.follow.session import LAST_PATIENCE_NS, Session
from tracer.kernel import kernel_facts
from tracer.process.find import find_all_by_name
from tracer.process.target import open_target
from tracer.terminal import complain, dump, say

__all__ = ("AdviseCommand",)

_SECONDS = 30.0
_BUSY_WAIT, _IDLE_WAIT = 0.002, 0.05


@dataclass
class _Advised:
    """What is said of the processes of a run or of a trace, in both forms."""

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
        if args.json:
            plain = {"schema": SCHEMA, "processes": self.processes}
            dump(plain | {"families": self.families} if self.families else plain)
        else:
            say("\n\n".join(self.texts))


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
            "ptescope advise ((-p PID | -n NAME) [-d SECONDS] | TRACE ...) [--keep EVENTS] "
            "[--detail] [--json]"
        )
        parser.add_argument("-p", "--pid", type=pid, help="the process")
        parser.add_argument(
            "-n", "--name", help="every process with this name; findings are for all together"
        )
        parser.add_argument(
            "-d",
            "--duration",
            type=seconds,
            metavar="SECONDS",
            help=f"how long to follow, or until Ctrl-C (default: {_SECONDS:g})",
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
        if (args.pid is not None) + (args.name is not None) + bool(args.traces) != 1:
            raise UsageError("Give one of -p PID and TRACE, or -n NAME.")
        if args.traces and args.duration:
            raise UsageError("-d is for a process that is followed; a trace has its own end.")
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
    advised.add(processes, detail=args.detail)
    return [damage] if damage else []


def _follow(pids: list[int], args: Namespace) -> Iterator[Evidence]:
    """What is known of processes that were followed together, made one at a time.

    Raises:
        PtescopeError: see the exit statuses of the output contract.
    """
    kernel, store = kernel_facts(), HistoryStore(args.keep)
    targets = [open_target(pid) for pid in pids]  # refuse before anything is loaded
    followed = list[tuple[Session, History]]()
    with ExitStack() as undo:
        probes, reader = undo.enter_context(open_tracing(kernel, backend=args.backend))
        prepare()  # when it is known that we may follow
        whatif.prepare()
        stop = Stop()
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
        deadline = time.monotonic() + (args.duration or _SECONDS)
        while not stop.asked and time.monotonic() < deadline:
            running = [session for session, _ in followed if not session.ended]
            if not running:
                break
            got = sum(session.pump() for session in running)
            time.sleep(_BUSY_WAIT if got else _IDLE_WAIT)
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
            problem = f"Process {facts.process.pid} ended before anything was known of it."
        else:
            known.append((session, history))
    if not known:
        raise NoSuchTargetError(problem)
    alike = Counter(session.engine.facts.process.comm for session, _ in known)
    for session, history in known:
        engine = session.engine
        yield evidence_of(engine, now, history.take(), alike[engine.facts.process.comm])
