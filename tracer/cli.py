"""ptescope: which PTE pages of your processes map nothing, and why."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

# Capabilities are dropped per thread, so numpy must not start any of its own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from pkgutil import resolve_name

from shadow.errors import PtescopeError
from tracer.commands import Command

__all__ = ("main", "whole_parser")

_COMMANDS = {
    "attach": "attach:Attach",
    "census": "census:Census",
    "record": "record:Record",
    "replay": "replay:Replay",
    "import": "import_:Import",
    "export": "export:Export",
    "advise": "advise:Advise",
    "daemon": "daemon:Daemon",
    "top": "top:Top",
    "doctor": "doctor:Doctor",
}
"""Where in `tracer.commands` each is. Only the one that is asked for is loaded: a daemon
is not to carry what draws on terminals, for months."""


def _command(name: str) -> Command:
    command: Command = resolve_name(f"tracer.commands.{_COMMANDS[name]}")()
    return command


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ptescope", description=__doc__)
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked = arguments[:1] if arguments and arguments[0] in _COMMANDS else _COMMANDS
    for name in asked:
        command = _command(name)
        text = (command.__doc__ or "").strip()
        subparser = commands.add_parser(
            name,
            help=text.splitlines()[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.prepare_parser(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def whole_parser() -> argparse.ArgumentParser:
    """The parser of all commands, for the reference, the man page and completion."""
    return _parser([])


def _version() -> str:
    from importlib.metadata import version

    return f"ptescope {version('ptescope')}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status.

    Errors that the user can act on are one line on stderr.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    args = _parser(arguments).parse_args(arguments)
    try:
        status: int = args.run(args)
    except PtescopeError as error:
        print(f"ptescope: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:  # in a command that has nothing to report when it is cut short
        print("ptescope: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of our output went away; say nothing more on it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main())
