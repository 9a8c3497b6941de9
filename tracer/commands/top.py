# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope top`: the host on a terminal, by who wastes most page tables."""

import sys
import threading
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack

from shadow.errors import PtescopeError, UsageError
from shadow.report.top import TopApp
from shadow.table import prepare
from tracer.capabilities import drop_capabilities
from tracer.commands.argument_types import seconds
from tracer.commands.daemon import BUSY_WAIT, IDLE_WAIT, add_choice, selection_of
from tracer.daemon import Host
from tracer.daemon.view_broker import ViewBroker
from tracer.follow.open_tracing import open_tracing
from tracer.kernel import kernel_facts

__all__ = ("TopCommand",)


class _Watcher(threading.Thread):
    """Watches the host while the screen is shown."""

    def __init__(self, host: Host) -> None:
        super().__init__(name="watch")
        self.broker = ViewBroker(lambda pid: host.view(slots_of=pid))
        self.problem: Exception | None = None
        self._host, self._stopped = host, False

    def run(self) -> None:
        """Until it is stopped."""
        try:
            while not self._stopped:
                busy = self._host.step()
                self.broker.answer()
                self.broker.wait(BUSY_WAIT if busy else IDLE_WAIT)
        except Exception as error:
            self.problem = error
        finally:
            why = f": {self.problem!r}" if self.problem else ""
            self.broker.close(PtescopeError(f"The host is not watched any more{why}."))

    def stop(self) -> None:
        """End it."""
        self._stopped = True
        self.join()


class TopCommand:
    """Show the processes of the host by who wastes most page tables.

    Keys sort, filter, pause, show sums by name (n), and open a process: its mappings, its
    occupancy, its slots as a map, its events, and what each policy would save.
    """

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        add_choice(parser)
        parser.add_argument(
            "-i", "--interval", type=seconds, default=2.0, metavar="SECONDS",
            help="seconds between two looks (default: 2)",
        )  # fmt: skip

    def run(self, args: Namespace) -> int:
        """Carry it out; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError("top needs a terminal; ptescope daemon has the same as metrics.")
        kernel = kernel_facts()
        selection, limits = selection_of(args)
        with ExitStack() as undo:
            probes, reader = undo.enter_context(open_tracing(kernel, backend=args.backend))
            prepare()  # when it is known that we may watch
            host = Host(probes, kernel, reader, selection=selection, limits=limits)
            undo.callback(host.close)
            drop_capabilities()
            watcher = _Watcher(host)
            watcher.start()
            undo.callback(watcher.stop)
            app = TopApp(watcher.broker.ask, args.interval)
            app.run()
        if app.problem:
            raise app.problem
        return app.return_code or 0
