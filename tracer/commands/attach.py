# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope attach`: follow one process and report on its page tables."""

from argparse import REMAINDER, ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from shadow.errors import UsageError
from shadow.family import followed_together
from shadow.plural import counted
from shadow.private_file import NewFile, check_place
from shadow.report.family import render_family
from shadow.report.text import render
from shadow.snapshot import Snapshot, document
from shadow.table import prepare
from shadow.trace import Redactor, TraceWriter
from tracer.capabilities import drop_capabilities
from tracer.commands.argument_types import pid, ring_size, seconds
from tracer.commands.options import add_backend
from tracer.follow.loop import Stop, follow
from tracer.follow.open_tracing import open_tracing, refuse_unread
from tracer.follow.process_tree import ProcessTree
from tracer.kernel import kernel_facts
from tracer.probes.stream import DEFAULT_RING
from tracer.process.find import find_by_name
from tracer.process.launch import Launched
from tracer.process.target import open_target
from tracer.terminal import complain, dump, say

__all__ = ("AttachCommand", "open_writer", "prepare_target", "run_tree")


def prepare_target(parser: ArgumentParser) -> None:
    """Declare what says whom to follow, how, and what to write down."""
    parser.add_argument("-p", "--pid", type=pid, help="the process to follow")
    parser.add_argument("-n", "--name", help="the process to follow, by its name")
    parser.add_argument(
        "-d", "--duration", type=seconds, metavar="SECONDS", help="stop after this time"
    )
    parser.add_argument(
        "-i", "--interval", type=seconds, metavar="SECONDS", help="a row each interval"
    )
    parser.add_argument(
        "--audit",
        type=seconds,
        metavar="SECONDS",
        help="compare with the real page tables, and repair, each so many seconds",
    )
    parser.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help="follow the processes that it forks or spawns, too",
    )
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    parser.add_argument(
        "--redact",
        action="store_true",
        help="leave host, paths, command lines and environment out of the trace, move addresses",
    )
    parser.add_argument(
        "--ring",
        type=ring_size,
        default=DEFAULT_RING,
        metavar="KIB",
        help="size of the ring buffer, a power of two (default: 16384)",
    )
    add_backend(parser)
    parser.add_argument("cmd", nargs=REMAINDER, metavar="-- CMD", help="start and follow this")


def open_writer(args: Namespace) -> TraceWriter | None:
    """The trace that was asked for, if any.

    Raises:
        UsageError: it cannot be made.
    """
    if args.output is None:
        return None
    if args.redact:
        return TraceWriter(args.output, force=args.force, change=Redactor)
    return TraceWriter(args.output, force=args.force)


def run_tree(
    args: Namespace,
    *,
    stop_without_trace: bool,
    before_rights_drop: Callable[[], object] = lambda: None,
) -> tuple[ProcessTree, TraceWriter | None]:
    """Follow whom the arguments name until it is over.

    Args:
        args: see `prepare_target`, and `output`.
        stop_without_trace: whether it is over when the trace cannot be written any more.
        before_rights_drop: is called when the process is seeded and all rights are still there.

    Returns:
        Those who were followed, and the trace, which is to be closed.

    Raises:
        PtescopeError: see the exit statuses of the output contract.
    """
    command = args.cmd[1:] if args.cmd[:1] == ["--"] else args.cmd
    if (args.pid is not None) + (args.name is not None) + bool(command) != 1:
        raise UsageError("Give one of -p PID, -n NAME, or -- CMD.")
    check_place(args.output, force=args.force)
    kernel = kernel_facts()
    launched = None
    if not command:
        pid = args.pid if args.pid is not None else find_by_name(args.name)
        open_target(pid)  # refuse before anything is loaded
    with ExitStack() as undo:
        probes, reader = undo.enter_context(
            open_tracing(kernel, ring_bytes=args.ring, backend=args.backend)
        )
        prepare()  # when it is known that we may follow
        stop = Stop()
        writer = open_writer(args)
        if writer:
            undo.callback(writer.discard_unpublished)
        if command:
            launched = Launched(command)
            undo.callback(launched.interrupt)
            pid = launched.pid
        tree = ProcessTree(
            probes, kernel, reader, forks=args.follow, tee=writer.tee if writer else None
        )
        tree.add(open_target(pid))
        first = tree.sessions[0]
        refuse_unread(first)
        if writer:
            writer.publish()  # while we have the rights to
        before_rights_drop()
        drop_capabilities()
        if writer:
            writer.start()  # from here on: its thread has the rights that are left
            if stop_without_trace:
                stop.also = lambda: writer.problem is not None
        complain(f"following {first.engine.facts.process.comm} (pid {pid}); Ctrl-C ends it")
        if launched:
            launched.release()
        follow(tree, stop, args, launched)
        tree.stop()
    if tree.missed:
        complain(f"{counted(tree.missed, 'forked process')} had ended before being read")
    return tree, writer


class AttachCommand:
    """Follow a process and report on its PTE pages.

    The process is neither stopped nor changed. The report comes when the time
    is over, when the process ends, or on Ctrl-C.
    """

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.usage = (
            "ptescope attach (-p PID | -n NAME | -- CMD ...) [-d SECONDS] [-i SECONDS] "
            "[--audit SECONDS] [-f] [-o TRACE [--redact]] [--report FILE] [--force] [--json] "
            "[--slots]"
        )
        parser.add_argument(
            "-o", "--output", type=Path, metavar="TRACE", help="write a trace for replay, too"
        )
        parser.add_argument(
            "--json", action="store_true", help="print the report as JSON (schema 1)"
        )
        parser.add_argument(
            "--report", type=Path, metavar="FILE",
            help="write the report there, apart from what CMD prints",
        )  # fmt: skip
        parser.add_argument("--slots", action="store_true", help="list the empty slots")
        prepare_target(parser)

    def run(self, args: Namespace) -> int:
        """Carry it out; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        check_place(args.report, force=args.force)
        if args.report and args.report == args.output:
            raise UsageError("-o and --report name the same file; give two.")
        with ExitStack() as files:
            made: list[NewFile] = []

            def make_report() -> None:
                if args.report:
                    made.append(files.enter_context(NewFile(args.report, force=args.force)))
                    made[0].publish_if_folder_is_anothers()

            tree, writer = run_tree(args, stop_without_trace=False, before_rights_drop=make_report)
            if writer:
                files.callback(_end_trace, writer)  # even if the report cannot be written
            snapshots = [session.snapshot(slots=args.slots) for session in tree.sessions]
            if made:
                with made[0].opened("w") as file:
                    _report(snapshots, args.json, file)
            else:
                _report(snapshots, args.json)
        return 0


def _end_trace(writer: TraceWriter) -> None:
    writer.close()
    complain(writer.summary())


def _report(snapshots: list[Snapshot], as_json: bool, file: TextIO | None = None) -> None:
    together = followed_together(snapshots)
    if as_json:
        dump(document(snapshots, [family.as_json() for family in together]), to=file)
    else:
        say("\n\n".join([*map(render, snapshots), *map(render_family, together)]), to=file)
