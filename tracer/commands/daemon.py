# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope daemon`: watch a whole host for months."""

import logging
import signal
import sys
import time
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from shadow.errors import PtescopeError
from shadow.snapshot import document
from shadow.table import prepare
from tracer.capabilities import drop_capabilities
from tracer.commands.argument_types import address, natural, percent, seconds, size
from tracer.commands.options import add_backend
from tracer.daemon import Host, Limits, Selection
from tracer.daemon.memory_trim import give_back, keep_heap_small
from tracer.daemon.sd_notify import notify, watchdog_seconds
from tracer.daemon.server import MetricsServer
from tracer.daemon.view_broker import ViewBroker
from tracer.follow.open_tracing import open_tracing
from tracer.kernel import kernel_facts
from tracer.terminal import dump, log_to_stderr

__all__ = ("BUSY_WAIT", "IDLE_WAIT", "DaemonCommand", "add_choice", "selection_of")

BUSY_WAIT, IDLE_WAIT = 0.05, 0.2
"""Seconds between two steps: events come in, or nothing does."""
_LISTEN = "127.0.0.1:9467"
_SWITCH_INTERVAL = 0.0005
"""Seconds for which a busy thread keeps the interpreter. A thread that serves connections asks
for it after each call to the kernel, and with the usual 5 ms 1,700 connections took 30 s."""
_NOTE_EVERY = 5.0
"""Seconds between two rounds of notes in the log: their numbers may change all the time."""

_log = logging.getLogger("ptescope")


def add_choice(parser: ArgumentParser) -> None:
    """Declare whom to follow, and what that may take."""
    add_backend(parser)
    parser.add_argument(
        "--name", action="append", default=[], metavar="PATTERN",
        help="follow processes whose name matches (repeatable; default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--cgroup", action="append", default=[], metavar="PATTERN",
        help="follow processes in these cgroups and those below them (repeatable)",
    )  # fmt: skip
    parser.add_argument(
        "--min-vmpte", type=size, default=1 << 20, metavar="SIZE",
        help="follow processes from this VmPTE on, only count the others (default: 1M)",
    )  # fmt: skip
    parser.add_argument(
        "--max-memory", type=size, default=512 << 20, metavar="SIZE",
        help="resident memory of all this; what does not fit is only counted (default: 512M)",
    )  # fmt: skip
    parser.add_argument(
        "--max-cpu", type=percent, default=25.0, metavar="PERCENT",
        help="of one CPU; if that is not enough, the busiest are sampled in time (default: 25)",
    )  # fmt: skip


def selection_of(args: Namespace) -> tuple[Selection, Limits]:
    """What `add_choice` declared."""
    selection = Selection(tuple(args.name), tuple(args.cgroup), args.min_vmpte >> 10)
    return selection, Limits(args.max_memory, args.max_cpu / 100)


class _Terminated:
    """Set by SIGTERM and SIGINT."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


class DaemonCommand:
    """Follow all processes of the host whose page tables matter.

    Metrics for Prometheus are served on the loopback address, and traces are
    written where asked. It ends on SIGTERM or Ctrl-C.
    """

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        add_choice(parser)
        parser.add_argument(
            "--listen", type=address, default=_LISTEN, metavar="HOST:PORT",
            help=f"where /metrics and /healthz are served (default: {_LISTEN})",
        )  # fmt: skip
        parser.add_argument(
            "--top", type=natural, default=20, metavar="N",
            help="the largest processes and cgroups that have metrics of their own (default: 20)",
        )  # fmt: skip
        parser.add_argument(
            "--record-dir", type=Path, metavar="DIR", help="write all down in traces there"
        )
        parser.add_argument(
            "--record-size", type=size, default=256 << 20, metavar="SIZE",
            help="begin a new trace from this size on (default: 256M)",
        )  # fmt: skip
        parser.add_argument(
            "--record-keep", type=natural, default=8, metavar="N",
            help="traces to keep, the one that is written included (default: 8)",
        )  # fmt: skip
        parser.add_argument(
            "-d", "--duration", type=seconds, metavar="SECONDS", help="stop after this time"
        )
        parser.add_argument(
            "--json", action="store_true", help="at the end audit all and print schema 1"
        )

    def run(self, args: Namespace) -> int:
        """Carry it out; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        log_to_stderr(logging.INFO)
        stop = _Terminated()
        selection, limits = selection_of(args)
        keep_heap_small()
        sys.setswitchinterval(_SWITCH_INTERVAL)
        traces = None
        if args.record_dir:
            from tracer.daemon.trace_rotation import Traces  # pyarrow takes 25 MiB

            traces = Traces(args.record_dir, size=args.record_size, keep=args.record_keep)
        kernel = kernel_facts()
        with ExitStack() as undo:
            probes, reader = undo.enter_context(open_tracing(kernel, backend=args.backend))
            prepare(lean=True)  # when it is known that we may watch
            host = Host(probes, kernel, reader, selection=selection, limits=limits, traces=traces)
            undo.callback(host.close)
            broker = ViewBroker(lambda pid: host.view(slots_of=pid, kinds=True))
            server = MetricsServer(broker.ask, *args.listen, top=args.top)
            undo.callback(server.stop)
            undo.callback(broker.close, PtescopeError("ptescope is about to end"))
            give_back()
            drop_capabilities()
            if traces:
                traces.start()
            server.start()
            notify("READY=1")
            _log.info("watching; metrics on http://%s:%s/metrics", args.listen[0], server.port)
            self._watch(host, broker, server, stop, args.duration)
            notify("STOPPING=1")
            if args.json:
                host.audit()
                known = [process.snapshot for process in host.view().processes]
                dump(document([snapshot for snapshot in known if snapshot]))
        return 0

    def _watch(
        self,
        host: Host,
        broker: ViewBroker,
        server: MetricsServer,
        stop: _Terminated,
        duration: float | None,
    ) -> None:
        end = time.monotonic() + duration if duration else float("inf")
        every, next_word, next_note = watchdog_seconds(), 0.0, 0.0
        said: list[str] = []
        while not stop.asked and (now := time.monotonic()) < end:
            busy = host.step()
            broker.answer()
            if every and now >= next_word:
                notify("WATCHDOG=1")
                next_word = now + every / 2
            if server.problem:
                raise PtescopeError(f"Metrics are not served any more: {server.problem!r}.")
            if now >= next_note and (notes := host.notes()) != said:
                said, next_note = notes, now + _NOTE_EVERY
                for note in notes:
                    _log.warning("%s", note)
            broker.wait(BUSY_WAIT if busy else IDLE_WAIT)
