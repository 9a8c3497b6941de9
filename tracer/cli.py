# SPDX-License-Identifier: GPL-2.0-only
"""Find the PTE pages of your processes that map nothing, and what left them behind."""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pkgutil import resolve_name
from types import FrameType
from typing import NoReturn

from shadow.errors import PtescopeError
from shadow.escape import printable
from shadow.version import VERSION
from tracer.commands import Command
from tracer.terminal import complain, log_to_stderr, say

__all__ = ("main", "whole_parser")

_COMMANDS = {
    "attach": ("attach:AttachCommand", "Follow a process and report on its PTE pages."),
    "census": ("census:CensusCommand", "Read the page tables of processes as they are now."),
    "record": (
        "record:RecordCommand",
        "Follow a process and write a trace that replays on any machine.",
    ),
    "replay": ("replay:ReplayCommand", "Report on recorded processes, from one trace or many."),
    "report": (
        "report:ReportCommand",
        "Write traces as one HTML page: charts, a map of the address space, and advice.",
    ),
    "import": ("import_:ImportCommand", "Make a trace from the output of perf, strace or ftrace."),
    "export": (
        "export:ExportCommand",
        "Convert a trace to Parquet, counters for the Perfetto UI, or profiles of its stacks.",
    ),
    "advise": ("advise:AdviseCommand", "Say what to change, what it saves, and what it costs."),
    "daemon": (
        "daemon:DaemonCommand",
        "Follow all processes with large page tables, and serve metrics for Prometheus.",
    ),
    "top": (
        "top:TopCommand",
        "Show the processes of the host on a terminal, sorted by wasted page tables.",
    ),
    "doctor": (
        "doctor:DoctorCommand",
        "Check what ptescope needs on this host, and say what is missing.",
    ),
}
"""The class of each command in `tracer.commands`, and its help. Only the requested class is
imported: `--help` imports none, and a daemon keeps no terminal libraries in memory for months."""

_EPILOG = "Run 'ptescope COMMAND --help' for the options of a command and an example."


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are safe to print: arguments may contain hostile file names."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit with status 2."""
        super().error(printable(message))


class _Version(argparse.Action):
    """Print the version in the way of all output."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print it and exit."""
        say(f"ptescope {VERSION}")
        parser.exit()


def _parser(prepared: Collection[str]) -> argparse.ArgumentParser:
    """The parser, with the options of the `prepared` commands only."""
    parser = _Parser(prog="ptescope", description=__doc__, epilog=_EPILOG)
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="show program's version number and exit"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (place, summary) in _COMMANDS.items():
        subparser = commands.add_parser(
            name,
            help=summary,
            description=summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name in prepared:
            command: Command = resolve_name(f"tracer.commands.{place}")()
            subparser.epilog = f"example:\n  {command.example}"
            command.prepare_parser(subparser)
            subparser.set_defaults(run=command.run)
    return parser


def whole_parser() -> argparse.ArgumentParser:
    """The parser with all commands, for the reference, the man page and completion."""
    return _parser(_COMMANDS)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into exceptions in this block, so that files are left in order."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number, handler in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGTERM, _end),
        ):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status.

    An error that the user can act on is printed as one line on stderr.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    # Capabilities are dropped per thread, so numpy, which commands import, must start none.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    log_to_stderr(logging.WARNING)
    try:
        args = _parser(arguments[:1]).parse_args(arguments)
        with _interruptible():
            status: int = args.run(args)
    except PtescopeError as error:
        complain(error)
        return error.status
    except KeyboardInterrupt:  # a command with nothing to report when interrupted
        complain("interrupted")
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output has exited
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        complain(f"{where}{error.strerror or error}.")
        return 1
    return status
