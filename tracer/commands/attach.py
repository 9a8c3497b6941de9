"""`ptescope attach`: follow one process and report on its page tables."""

from argparse import REMAINDER, ArgumentParser, Namespace
from contextlib import ExitStack
from pathlib import Path

from shadow.errors import NoSuchTargetError, PtescopeError, UsageError
from shadow.report.text import render
from shadow.snapshot import Snapshot, document
from shadow.table import prepare
from shadow.trace import Redactor, TraceWriter
from tracer.commands import positive
from tracer.family import Family
from tracer.instruments import add_backend, instruments
from tracer.kernel import kernel_facts
from tracer.launch import Launched
from tracer.probes import DEFAULT_RING
from tracer.rights import drop_rights
from tracer.run import Stop, follow
from tracer.say import complain, dump, say
from tracer.target import find_by_name, open_target

__all__ = ("Attach", "open_writer", "prepare_target", "run_family")


def _ring_size(text: str) -> int:
    """Bytes of a ring given in KiB: a power of two of at least one page."""
    kib = int(text)
    if kib < 4 or kib & (kib - 1):
        raise ValueError(text)
    return kib << 10


def prepare_target(parser: ArgumentParser) -> None:
    """Declare what says whom to follow, how, and what to write down."""
    parser.add_argument("-p", "--pid", type=int, help="the process to follow")
    parser.add_argument("-n", "--name", help="the process to follow, by its name")
    parser.add_argument(
        "-d", "--duration", type=positive, metavar="SECONDS", help="stop after this time"
    )
    parser.add_argument(
        "-i", "--interval", type=positive, metavar="SECONDS", help="a row each interval"
    )
    parser.add_argument(
        "--audit",
        type=positive,
        metavar="SECONDS",
        help="compare with the real page tables, and repair, each so many seconds",
    )
    parser.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help="follow the processes that it forks or spawns, too",
    )
    parser.add_argument("--force", action="store_true", help="replace a trace that is there")
    parser.add_argument(
        "--redact",
        action="store_true",
        help="leave host, paths, command lines and environment out of the trace, move addresses",
    )
    parser.add_argument(
        "--ring",
        type=_ring_size,
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


def run_family(args: Namespace, *, stop_without_trace: bool) -> tuple[Family, TraceWriter | None]:
    """Follow whom the arguments name until it is over.

    Args:
        args: see `prepare_target`, and `output`.
        stop_without_trace: whether it is over when the trace cannot be written any more.

    Returns:
        Those who were followed, and the trace, which is to be closed.

    Raises:
        PtescopeError: see the exit statuses of the output contract.
    """
    command = args.cmd[1:] if args.cmd[:1] == ["--"] else args.cmd
    if (args.pid is not None) + (args.name is not None) + bool(command) != 1:
        raise UsageError("Give one of -p PID, -n NAME, or -- CMD.")
    stop = Stop()
    kernel = kernel_facts()
    launched = None
    if not command:
        pid = args.pid if args.pid is not None else find_by_name(args.name)
        open_target(pid)  # refuse before anything is loaded
    prepare()
    with ExitStack() as undo:
        probes, reader = undo.enter_context(
            instruments(kernel, ring_bytes=args.ring, backend=args.backend)
        )
        if command:
            launched = Launched(command)
            undo.callback(launched.interrupt)
            pid = launched.pid
        writer = open_writer(args)
        family = Family(probes, kernel, reader, forks=args.follow, writer=writer)
        try:
            family.add(open_target(pid))
            if family.sessions[0].following.facts.kernel.seed == "none":
                raise NoSuchTargetError(f"Process {pid} ended before it could be read.")
        except PtescopeError:
            if writer:
                writer.discard()
            raise
        drop_rights()
        if writer:
            writer.start()  # from here on: its thread has the rights that are left
            if stop_without_trace:
                stop.also = lambda: writer.problem is not None
        if launched:
            launched.release()
        follow(family, stop, args, launched)
        family.stop()
    if family.missed:
        complain(f"{family.missed} forked processes had ended before they were read")
    return family, writer


class Attach:
    """Follow a process and report on its PTE pages.

    The process is neither stopped nor changed. The report comes when the time
    is over, when the process ends, or on Ctrl-C.
    """

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.usage = (
            "ptescope attach (-p PID | -n NAME | -- CMD ...) [-d SECONDS] [-i SECONDS] "
            "[--audit SECONDS] [-f] [-o TRACE [--force] [--redact]] [--json] [--slots]"
        )
        parser.add_argument(
            "-o", "--output", type=Path, metavar="TRACE", help="write a trace for replay, too"
        )
        parser.add_argument(
            "--json", action="store_true", help="print the report as JSON (schema 1)"
        )
        parser.add_argument("--slots", action="store_true", help="list the empty slots")
        prepare_target(parser)

    def run(self, args: Namespace) -> int:
        """Carry it out; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        family, writer = run_family(args, stop_without_trace=False)
        _report([session.snapshot(slots=args.slots) for session in family.sessions], args.json)
        if writer:
            writer.close()
            complain(writer.summary())
        return 0


def _report(snapshots: list[Snapshot], as_json: bool) -> None:
    if as_json:
        dump(document(snapshots))
    else:
        say("\n\n".join(map(render, snapshots)))
