# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope daemon`: follow a whole host for months."""

import logging
import sys
import time
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack

from shadow.errors import PtescopeError
from shadow.precompile import prepare
from shadow.snapshot import document
from shadow.version import VERSION
from tracer.capabilities import drop_capabilities
from tracer.commands.argument_types import percent, size
from tracer.commands.config_file import ConfigFile
from tracer.commands.daemon_options import (
    CONFIG,
    CONFIG_FILE,
    NOT_IN_CONFIG,
    add_daemon_options,
)
from tracer.commands.options import add_backend
from tracer.commands.output import print_json
from tracer.daemon.discovery import Selection
from tracer.daemon.host import Host
from tracer.daemon.limits import Limits
from tracer.daemon.listeners import server_url
from tracer.daemon.memory_trim import give_back, keep_heap_small
from tracer.daemon.sd_notify import notify, watchdog_seconds
from tracer.daemon.server import MetricsServer
from tracer.daemon.service import service_file
from tracer.daemon.view_broker import ViewBroker
from tracer.daemon.watch import follow_host
from tracer.follow.loop import Stop, Task
from tracer.follow.open_tracing import open_tracing
from tracer.kernel import kernel_facts
from tracer.terminal import log_to, say

__all__ = ("DaemonCommand", "add_choice", "selection_of")

_SWITCH_INTERVAL = 0.0005
"""Seconds for which a busy thread keeps the interpreter lock. A thread that serves connections
needs the lock after each system call; with the default of 5 ms, 1,700 connections took 30 s."""
_CHECK_NOTES_EVERY = 0.5
_NOTE_EVERY = 5.0
"""Seconds between two rounds of notes in the log, since their numbers may change constantly."""

_log = logging.getLogger("ptescope")


def add_choice(parser: ArgumentParser) -> None:
    """Declare which processes to follow, and the limits of ptescope itself."""
    processes = parser.add_argument_group("processes")
    processes.add_argument(
        "--name", action="append", default=[], metavar="PATTERN",
        help="follow processes with a matching name (repeatable; default: all)",
    )  # fmt: skip
    processes.add_argument(
        "--cgroup", action="append", default=[], metavar="PATTERN",
        help="follow processes in matching cgroups and below them (repeatable; default: all)",
    )  # fmt: skip
    processes.add_argument(
        "--min-vmpte", type=size, default=1 << 20, metavar="SIZE",
        help="follow processes with at least this VmPTE; for the rest, read only VmPTE "
        "(default: 1M)",
    )  # fmt: skip
    limits = parser.add_argument_group("limits and probes")
    limits.add_argument(
        "--max-memory", type=size, default=512 << 20, metavar="SIZE",
        help="resident memory of ptescope; it reads only VmPTE of processes that do not fit "
        "(default: 512M)",
    )  # fmt: skip
    limits.add_argument(
        "--max-cpu", type=percent, default=25.0, metavar="PERCENT",
        help="processor time of ptescope, of one CPU; beyond it, ptescope samples the busiest "
        "processes (default: 25)",
    )  # fmt: skip
    add_backend(limits)


def selection_of(args: Namespace) -> tuple[Selection, Limits]:
    """The values of the options that `add_choice` declares."""
    selection = Selection(tuple(args.name), tuple(args.cgroup), args.min_vmpte >> 10)
    return selection, Limits(args.max_memory, args.max_cpu / 100)


class _Notes:
    """The host's notes in the log, whenever they have changed."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._logged: list[str] = []
        self._next = 0.0

    def log(self) -> None:
        """Log the notes if they differ from those logged last, and those are old enough."""
        now, notes = time.monotonic(), self._host.notes()
        if now >= self._next and notes != self._logged:
            self._logged, self._next = notes, now + _NOTE_EVERY
            for note in notes:
                _log.warning("%s", note)


def _ping(host: Host) -> None:
    """Tell the service manager that all is well, unless the events have stopped."""
    if not host.blind:
        notify("WATCHDOG=1")


class DaemonCommand:
    """Follow all processes with large page tables, and serve metrics for Prometheus.

    It ends on SIGTERM or Ctrl-C.
    """

    example = "ptescope daemon --min-vmpte 4M --max-memory 256M"

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        add_choice(parser)
        add_daemon_options(parser)
        self._config = ConfigFile(parser, NOT_IN_CONFIG)

    def run(self, args: Namespace) -> int:
        """Run the command; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        if "print" in args:
            say(self._config.template() if args.print == CONFIG else service_file(args.print))
            return 0
        path = getattr(args, "config", CONFIG_FILE if CONFIG_FILE.exists() else None)
        args = self._config.complete(args, path)
        log_to(args.log_file, logging.INFO)
        selection, limits = selection_of(args)
        keep_heap_small()
        sys.setswitchinterval(_SWITCH_INTERVAL)
        traces = None
        if args.record_dir:
            from tracer.daemon.trace_rotation import Traces  # pyarrow takes 25 MiB

            traces = Traces(args.record_dir, size=args.record_size, keep=args.record_keep)
        kernel = kernel_facts()
        with Stop(patient=True) as stop, ExitStack() as undo:
            stop.listen()
            probes, reader = undo.enter_context(open_tracing(kernel, backend=args.backend))
            # Only now, as it may compile: following is allowed.
            prepare(kernel.geometry)
            host = Host(probes, kernel, reader, selection=selection, limits=limits, traces=traces)
            undo.callback(host.close)
            broker = ViewBroker(lambda pid: host.view(slots_of=pid, kinds=True))
            server = MetricsServer(
                broker.ask, *args.listen, top=args.top, look=broker.ask, socket_path=args.socket
            )
            undo.callback(server.stop)
            undo.callback(broker.close, PtescopeError("ptescope is shutting down"))
            give_back()
            drop_capabilities()
            if traces:
                traces.start()
            server.start()
            notify("READY=1")
            _log.info(
                "ptescope %s follows the host; live page on %s, metrics on %smetrics",
                VERSION, url := server_url(args.listen[0], server.port), url,
            )  # fmt: skip
            self._watch(host, broker, server, stop, args.duration)
            notify("STOPPING=1")
            if args.json:
                host.audit()
                known = [process.snapshot for process in host.view().processes]
                print_json(document([snapshot for snapshot in known if snapshot]))
        return 0

    def _watch(
        self,
        host: Host,
        broker: ViewBroker,
        server: MetricsServer,
        stop: Stop,
        duration: float | None,
    ) -> None:
        def over() -> bool:
            if server.problem:
                raise PtescopeError(f"The metrics server has failed: {server.problem!r}.")
            return stop()

        notes = _Notes(host)
        tasks = [Task(_CHECK_NOTES_EVERY, notes.log, at_once=True)]
        if watchdog := watchdog_seconds():
            # Four times, since a busy host may delay a test event.
            tasks.append(Task(watchdog / 4, lambda: _ping(host), at_once=True))
        follow_host(host, broker, over, duration=duration, tasks=tasks)
