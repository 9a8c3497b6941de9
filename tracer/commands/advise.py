# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope advise`: what to change so that a process has fewer empty PTE pages."""

import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

from shadow.advice import Evidence
from shadow.advice.collect import evidence_of
from shadow.errors import NoSuchTargetError, UsageError
from shadow.history import History, HistoryStore
from shadow.plural import counted
from shadow.precompile import prepare
from shadow.report.page.data import Source
from tracer.capabilities import drop_capabilities
from tracer.commands.advised import Advised, add_keep, advise_on_traces
from tracer.commands.argument_types import pid, seconds
from tracer.commands.courses import Courses
from tracer.commands.options import add_backend, add_max_memory, add_traces
from tracer.commands.output import print_report
from tracer.commands.page import HtmlPage, add_html
from tracer.follow.loop import Stop, follow
from tracer.follow.open_tracing import open_tracing, refuse_unread
from tracer.follow.session import LAST_PATIENCE_NS, Session
from tracer.kernel import kernel_facts
from tracer.process.find import find_all_by_name
from tracer.process.target import open_target
from tracer.terminal import complain

__all__ = ("AdviseCommand",)

_SECONDS = 30.0


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
            "                       [--html FILE [--force]] [--keep EVENTS] [--max-memory SIZE]\n"
            "                       [--backend NAME]"
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
        add_traces(source, nargs="*")
        report = parser.add_argument_group("report")
        report.add_argument(
            "--detail",
            action="store_true",
            help="show all risks, the basis of each number, how to verify, and sources",
        )
        report.add_argument(
            "--json", action="store_true", help="print the advice as JSON (schema 1)"
        )
        add_html(report)
        report.add_argument("--force", action="store_true", help="replace an existing page")
        limits = parser.add_argument_group("memory and probes")
        add_keep(limits)
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
        with HtmlPage(args.html, force=args.force) as page:
            if args.traces:
                return _on_traces(args, page)
            pids = [args.pid] if args.name is None else find_all_by_name(args.name)
            followed = list[_Followed]()
            courses = Courses()
            _follow(pids, args, followed, page, courses)
            known = _known(followed)
            advised = Advised()
            advised.add(_evidence(known), detail=args.detail)
            if page.wanted:
                processes = courses.processes([session for session, _ in known])
                page.write(advised.document(), processes)
            _show(advised, args)
        return 0


def _on_traces(args: Namespace, page: HtmlPage) -> int:
    sources: list[Source] | None = [] if page.wanted else None
    advised, processes, problems = advise_on_traces(args.traces, args, sources)
    if advised.processes:
        page.write(advised.document(), processes, sources or ())
        _show(advised, args)
    for problem in problems:
        complain(problem)
    return problems[0].status if problems else 0


def _show(advised: Advised, args: Namespace) -> None:
    print_report(advised.document(), lambda: "\n\n".join(advised.texts), as_json=args.json)


_Followed = tuple[Session, History]
"""A process, and the events that are kept of it."""


def _follow(
    pids: list[int], args: Namespace, followed: list[_Followed], page: HtmlPage, courses: Courses
) -> None:
    """Follow processes for the window.

    Args:
        pids: the processes.
        args: the options of the command.
        followed: collects the processes that still run.
        page: the page to write later.
        courses: takes the course of time for the page.

    Raises:
        PtescopeError: see the exit statuses of the output contract.
    """
    kernel, store = kernel_facts(), HistoryStore(args.keep)
    targets = [open_target(pid) for pid in pids]  # fail before anything is loaded
    with Stop() as stop, ExitStack() as undo:
        probes, reader = undo.enter_context(open_tracing(kernel, backend=args.backend))
        prepare(kernel.geometry)  # only now, as it may compile: following is allowed
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
        page.make()
        drop_capabilities()
        sessions = [session for session, _ in followed]
        complain(f"following {_named(sessions)}")

        def pump() -> int:
            return sum(session.follow() for session in sessions if not session.ended)

        def over() -> bool:
            return stop() or all(session.ended for session in sessions)

        tasks = [courses.task(sessions)] if page.wanted else []
        follow(pump, over, duration=args.duration or _SECONDS, tasks=tasks)
        for session in sessions:
            session.stop(LAST_PATIENCE_NS // len(followed))


def _named(sessions: list[Session]) -> str:
    first = sessions[0].engine.facts.process
    if len(sessions) == 1:
        return f"{first.comm} (pid {first.pid})"
    return f"{first.comm}, {counted(len(sessions), 'process')}"


def _known(followed: list[_Followed]) -> list[_Followed]:
    """Those whose page tables were read before they ended.

    Raises:
        NoSuchTargetError: there is none.
    """
    known = list[_Followed]()
    for session, history in followed:
        facts = session.engine.facts
        if facts.ended and facts.kernel.seed == "none":
            problem = f"Process {facts.process.pid} ended before its page tables were read."
        else:
            known.append((session, history))
    if not known:
        raise NoSuchTargetError(problem)
    return known


def _evidence(followed: list[_Followed]) -> Iterator[Evidence]:
    now = time.monotonic_ns()
    alike = Counter(session.engine.facts.process.comm for session, _ in followed)
    for session, history in followed:
        engine = session.engine
        yield evidence_of(engine, now, history.take(), alike[engine.facts.process.comm])
