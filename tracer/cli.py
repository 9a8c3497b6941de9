# SPDX-License-Identifier: GPL-2.0-only
"""Find the PTE pages of your processes that map nothing, and what left them behind."""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pkgutil import resolve_name
from types import FrameType
from typing import NoReturn

from shadow.errors import PtescopeError
from shadow.escape import printable
from tracer.commands import Command
from tracer.terminal import complain, log_to_stderr

__all__ = ("main", "whole_parser")

_COMMANDS = {
    "attach": "attach:AttachCommand",
    "census": "census:CensusCommand",
    "record": "record:RecordCommand",
    "replay": "replay:ReplayCommand",
    "report": "report:ReportCommand",
    "import": "import_:ImportCommand",
    "export": "export:ExportCommand",
    "advise": "advise:AdviseCommand",
    "daemon": "daemon:DaemonCommand",
    "top": "top:TopCommand",
    "doctor": "doctor:DoctorCommand",
}
"""The class of each command in `tracer.commands`. Only the requested one is imported, so that a
daemon does not keep terminal libraries in memory for months."""

_EPILOG = "Run 'ptescope COMMAND --help' for the options of a command and an example."


def _command(name: str) -> Command:
    command: Command = resolve_name(f"tracer.commands.{_COMMANDS[name]}")()
    return command


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are safe to print: arguments may contain hostile file names."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit with status 2."""
        super().error(printable(message))


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="ptescope", description=__doc__, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    requested = arguments[:1] if arguments and arguments[0] in _COMMANDS else _COMMANDS
    for name in requested:
        command = _command(name)
        summary = (command.__doc__ or "").strip().splitlines()[0]
        subparser = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example:\n  {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.prepare_parser(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def whole_parser() -> argparse.ArgumentParser:
    """The parser with all commands, for the reference, the man page and completion."""
    return _parser([])


def _version() -> str:
    from importlib.metadata import version

    return f"ptescope {version('ptescope')}"


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
        args = _parser(arguments).parse_args(arguments)
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
