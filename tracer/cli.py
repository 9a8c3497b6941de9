"""ptescope: which PTE pages of your processes map nothing, and why."""

import argparse
import os
import sys
from collections.abc import Sequence

# Capabilities are dropped per thread, so numpy must not start any of its own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from shadow.errors import PtescopeError
from tracer.commands import Command
from tracer.commands.advise import Advise
from tracer.commands.attach import Attach
from tracer.commands.census import Census
from tracer.commands.daemon import Daemon
from tracer.commands.doctor import Doctor
from tracer.commands.export import Export
from tracer.commands.import_ import Import
from tracer.commands.record import Record
from tracer.commands.replay import Replay
from tracer.commands.top import Top

__all__ = ("main",)

_COMMANDS: tuple[Command, ...] = (
    Attach(),
    Census(),
    Record(),
    Replay(),
    Import(),
    Export(),
    Advise(),
    Daemon(),
    Top(),
    Doctor(),
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ptescope", description=__doc__)
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        text = (command.__doc__ or "").strip()
        subparser = commands.add_parser(
            command.name,
            help=text.splitlines()[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.prepare_parser(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def _version() -> str:
    from importlib.metadata import version

    return f"ptescope {version('ptescope')}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status.

    Errors that the user can act on are one line on stderr.
    """
    args = _parser().parse_args(arguments)
    try:
        status: int = args.run(args)
    except PtescopeError as error:
        print(f"ptescope: {error}", file=sys.stderr)
        return error.status
    except BrokenPipeError:
        # The reader of our output went away; say nothing more on it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main())
