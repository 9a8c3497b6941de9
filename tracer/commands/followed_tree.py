# SPDX-License-Identifier: GPL-2.0-only
"""The run of `attach` and `record`: find or start the target, follow it and its children."""

import time
from argparse import REMAINDER, ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from shadow.errors import UsageError
from shadow.plural import counted
from shadow.precompile import Preparation
from shadow.private_file import check_place
from tracer.capabilities import drop_capabilities
from tracer.commands.argument_types import pid, ring_size, seconds
from tracer.commands.options import add_backend, add_stacks, stack_rate
from tracer.commands.progress import rows_at, status_line
from tracer.follow.loop import Stop, Task, follow
from tracer.follow.open_tracing import open_stacks, open_tracing, refuse_unread
from tracer.follow.process_tree import ProcessTree
from tracer.follow.session import Session
from tracer.kernel import kernel_facts
from tracer.probes.stack_sampling import STACK_RING
from tracer.probes.stream import DEFAULT_RING
from tracer.process.find import find_by_name
from tracer.process.launch import Launched
from tracer.process.target import open_target
from tracer.terminal import complain

if TYPE_CHECKING:
    from shadow.trace import TraceWriter

__all__ = ("prepare_target", "run_tree")

_SHORTEST = 0.001
"""Seconds to follow if the window is over once the table is compiled."""
_PAUSE = 0.005


def prepare_target(parser: ArgumentParser) -> None:
    """Declare the options of `attach` and `record` alike."""
    target = parser.add_argument_group("target", "Give exactly one of PID, NAME and CMD.")
    target.add_argument("-p", "--pid", type=pid, help="follow this process")
    target.add_argument("-n", "--name", help="follow the one process with this name")
    target.add_argument("cmd", nargs=REMAINDER, metavar="-- CMD", help="start this program")
    target.add_argument("-f", "--follow", action="store_true", help="also follow child processes")
    window = parser.add_argument_group("window")
    window.add_argument(
        "-d", "--duration", type=seconds, metavar="SECONDS", help="stop after this time"
    )
    window.add_argument(
        "-i", "--interval", type=seconds, metavar="SECONDS", help="print a row every SECONDS"
    )
    window.add_argument(
        "--audit",
        type=seconds,
        metavar="SECONDS",
        help="compare with the real page tables, and repair, every SECONDS",
    )
    files = parser.add_argument_group("files")
    files.add_argument("--force", action="store_true", help="replace existing files")
    files.add_argument(
        "--redact",
        action="store_true",
        help="omit host, paths, command lines and environment from the trace, and move addresses",
    )
    probes = parser.add_argument_group("probes")
    probes.add_argument(
        "--ring",
        type=ring_size,
        default=DEFAULT_RING,
        metavar="KIB",
        help="size of the ring buffer, a power of two (default: 16384)",
    )
    add_backend(probes)
    add_stacks(parser)


def _open_writer(args: Namespace) -> "TraceWriter | None":
    """The writer of the requested trace, if one was requested.

    Raises:
        UsageError: the trace cannot be created.
    """
    if args.output is None:
        return None
    from shadow.trace import Redactor, TraceWriter  # imports pyarrow, 27 MiB

    if args.redact:
        return TraceWriter(args.output, force=args.force, change=Redactor)
    return TraceWriter(args.output, force=args.force)


def run_tree(
    args: Namespace,
    stop: Stop,
    *,
    stop_without_trace: bool,
    before_rights_drop: Callable[[], object] = lambda: None,
    more_tasks: Callable[[ProcessTree], Sequence[Task]] = lambda _: (),
) -> "tuple[ProcessTree, TraceWriter | None]":
    """Follow the target until the window ends.

    Args:
        args: the options of `prepare_target`, and `output`.
        stop: listens to signals once the process can be followed.
        stop_without_trace: whether to stop once the trace can no longer be written.
        before_rights_drop: called once the process is seeded, while all rights remain.
        more_tasks: returns what else to do at intervals.

    Returns:
        The processes that were followed, and the trace writer, which the caller closes.

    Raises:
        PtescopeError: see the exit statuses of the output contract.
    """
    command = args.cmd[1:] if args.cmd[:1] == ["--"] else args.cmd
    if (args.pid is not None) + (args.name is not None) + bool(command) != 1:
        raise UsageError("Give one of -p PID, -n NAME, or -- CMD.")
    check_place(args.output, force=args.force)
    rate = stack_rate(args)
    kernel = kernel_facts()
    launched = None
    if not command:
        pid = args.pid if args.pid is not None else find_by_name(args.name)
        open_target(pid)  # fail before anything is loaded
    with ExitStack() as undo:
        probes, reader = undo.enter_context(
            open_tracing(
                kernel,
                ring_bytes=args.ring,
                backend=args.backend,
                stack_ring_bytes=STACK_RING if rate else 0,
            )
        )
        stacks = undo.enter_context(open_stacks(probes, reader, rate))
        # Only now, as it may compile: following is allowed.
        preparation = undo.enter_context(Preparation(kernel.geometry))
        stop.listen()
        writer = _open_writer(args)
        if writer:
            undo.callback(writer.discard_unpublished)
        if command:
            launched = Launched(command)
            undo.callback(launched.interrupt)
            pid = launched.pid
        tree = ProcessTree(
            probes,
            kernel,
            reader,
            forks=args.follow,
            tee=writer.tee if writer else None,
            stacks=stacks,
        )
        tree.read(open_target(pid))
        first = tree.sessions[0]
        refuse_unread(first)
        if writer:
            writer.publish()  # while we may still write there
        before_rights_drop()
        drop_capabilities()
        if writer:
            writer.start()  # only now, so that its thread has no more rights than remain
        complain(f"following {first.engine.facts.process.comm} (pid {pid}); Ctrl-C ends it")
        if launched:
            launched.release()
        begin = time.monotonic()
        _start(first, preparation, stop)
        left = args.duration and max(args.duration - (time.monotonic() - begin), _SHORTEST)
        needed = writer if stop_without_trace else None
        _follow(tree, stop, args, left, launched, needed, more_tasks(tree))
        tree.stop()
    if tree.missed:
        complain(f"{counted(tree.missed, 'forked process')} ended before ptescope could read them")
    return tree, writer


def _start(session: Session, preparation: Preparation, stop: Stop) -> None:
    """Keep events until the table is compiled, and start the session."""
    waits = False
    while not preparation.done():
        if stop() and not waits:
            waits = True
            complain("the report waits for the compiler; Ctrl-C again ends without a report")
        session.hold()
        time.sleep(_PAUSE)
    preparation.finish()
    session.start()


def _follow(
    tree: ProcessTree,
    stop: Stop,
    args: Namespace,
    duration: float | None,
    launched: Launched | None,
    needed_trace: "TraceWriter | None",
    more_tasks: Sequence[Task],
) -> None:
    """Pump events until a signal, the end of all processes, or the end of the time.

    Args:
        tree: the processes.
        stop: a signal has come.
        args: interval, audit, json.
        duration: seconds to follow; None: no limit.
        launched: the program that was started for this.
        needed_trace: the trace without which there is no point in going on.
        more_tasks: what else to do at intervals.
    """

    def pump() -> int:
        count = tree.pump()
        if launched:
            launched.ended()  # reap it; its EXIT event ends the run
        return count

    def over() -> bool:
        lost_trace = needed_trace is not None and needed_trace.problem is not None
        return stop() or lost_trace or tree.ended()

    tasks = [*more_tasks, *([Task(args.audit, tree.audit)] if args.audit else [])]
    if args.interval:
        tasks.append(rows_at(args.interval, tree, to_stderr=args.json))
    with status_line(tree) as shown:
        follow(pump, over, duration=duration, tasks=[*tasks, *shown])
