# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope top`: show the host on a terminal, sorted by wasted page tables."""

import os
import sys
import threading
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from pathlib import Path

from shadow.errors import PtescopeError, UsageError
from shadow.precompile import prepare
from shadow.report.top import TopApp
from tracer.capabilities import drop_capabilities
from tracer.commands.argument_types import seconds
from tracer.commands.daemon import add_choice, selection_of
from tracer.daemon.host import Host
from tracer.daemon.listeners import SOCKET
from tracer.daemon.view_broker import ViewBroker
from tracer.daemon.view_client import DaemonViews
from tracer.daemon.watch import follow_host
from tracer.follow.open_tracing import open_tracing
from tracer.kernel import kernel_facts

__all__ = ("TopCommand",)


class _Watcher(threading.Thread):
    """The thread that follows the host while the screen is shown."""

    def __init__(self, host: Host) -> None:
        super().__init__(name="watch")
        self.broker = ViewBroker(lambda pid: host.view(slots_of=pid))
        self.problem: Exception | None = None
        self._host, self._stopped = host, False

    def run(self) -> None:
        """Follow the host until `stop` is called."""
        try:
            follow_host(self._host, self.broker, lambda: self._stopped)
        except Exception as error:
            self.problem = error
        finally:
            why = f": {self.problem!r}" if self.problem else ""
            self.broker.close(PtescopeError(f"The host is not watched any more{why}."))

    def stop(self) -> None:
        """Stop the thread and wait for it."""
        self._stopped = True
        self.join()


def _show(app: TopApp) -> int:
    """Run the screens; returns the exit status."""
    app.run()
    if app.problem:
        raise app.problem
    return app.return_code or 0


class TopCommand:
    """Show the processes of the host on a terminal, sorted by wasted page tables.

    Keys sort, filter, pause and show sums by name (n). Enter opens a process: its mappings, its
    occupancy, its slots as a map, its events, and what each policy would save.
    """

    example = "ptescope top --name 'redis*' -i 5"

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        add_choice(parser)
        screen = parser.add_argument_group("screen")
        screen.add_argument(
            "-i", "--interval", type=seconds, default=2.0, metavar="SECONDS",
            help="refresh every SECONDS (default: 2)",
        )  # fmt: skip
        screen.add_argument(
            "--socket", type=Path, metavar="PATH",
            help="show what the daemon behind this socket follows, with its options "
            f"(default: follow; without root: {SOCKET})",
        )  # fmt: skip

    def run(self, args: Namespace) -> int:
        """Run the command; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(
                "top needs a terminal; 'ptescope daemon' serves the same data as metrics."
            )
        path = args.socket
        if path is None and os.geteuid() != 0 and os.path.isdir(SOCKET.parent):  # noqa: PTH112
            path = SOCKET  # Path.is_dir would raise where this account may not look
        if path:
            views = DaemonViews(path)
            views.ask()  # fail before the screen opens
            return _show(TopApp(views.ask, args.interval))
        kernel = kernel_facts()
        selection, limits = selection_of(args)
        with ExitStack() as undo:
            probes, reader = undo.enter_context(open_tracing(kernel, backend=args.backend))
            prepare(kernel.geometry)  # only now, as it may compile: following is allowed
            host = Host(probes, kernel, reader, selection=selection, limits=limits)
            undo.callback(host.close)
            drop_capabilities()
            watcher = _Watcher(host)
            watcher.start()
            undo.callback(watcher.stop)
            return _show(TopApp(watcher.broker.ask, args.interval))
