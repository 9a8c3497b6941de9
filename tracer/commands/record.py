# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope record`: follow one process and write a trace, which replays anywhere."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from tracer.commands.followed_tree import prepare_target, run_tree
from tracer.follow.loop import Stop
from tracer.terminal import complain

__all__ = ("RecordCommand",)

_OUTPUT = Path("ptescope.arrows")


class RecordCommand:
    """Follow a process and write a trace that replays on any machine.

    `ptescope replay` reports from the trace what `ptescope attach` would have reported.
    """

    example = "ptescope record -n redis-server -d 60 -o redis.arrows"

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.usage = (
            "ptescope record (-p PID | -n NAME | -- CMD ...) [-f] [-d SECONDS] [-i SECONDS]\n"
            "                       [--audit SECONDS] [-o TRACE] [--force] [--redact]\n"
            "                       [--stacks [--stack-rate N]] [--ring KIB] [--backend NAME]"
        )
        parser.add_argument_group("trace").add_argument(
            "-o",
            "--output",
            type=Path,
            default=_OUTPUT,
            metavar="TRACE",
            help=f"the trace to write (default: {_OUTPUT})",
        )
        parser.set_defaults(json=False)
        prepare_target(parser)

    def run(self, args: Namespace) -> int:
        """Run the command; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        with Stop() as stop:
            _, writer = run_tree(args, stop, stop_without_trace=True)
            assert writer
            writer.close()
            complain(writer.summary())
        return 0
