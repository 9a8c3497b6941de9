# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope import`: a trace out of what perf, strace or ftrace recorded."""

import sys
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from pathlib import Path

from shadow.errors import UsageError
from shadow.perf_import import read_recording
from shadow.plural import counted
from shadow.policy import POLICIES, Policy
from shadow.trace import TraceFile
from tracer.terminal import complain

__all__ = ("ImportCommand",)


class ImportCommand:
    """Make a trace of what perf, strace or ftrace printed, to be replayed.

    For hosts that have these and nothing else: the output of perf script, perf trace,
    strace -f, trace-cmd report, or tracefs, told by its content. What such a trace lacks is
    said in the report.
    """

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.add_argument(
            "script", metavar="FILE", help="the text of any of these; - for standard input"
        )
        parser.add_argument(
            "-o", "--output", type=Path, required=True, metavar="TRACE", help="the trace to write"
        )
        parser.add_argument("--force", action="store_true", help="replace a trace that is there")
        parser.add_argument(
            "--policy",
            choices=[policy.label for policy in POLICIES],
            help="when that host's kernel frees PTE pages (default: by its release)",
        )

    def run(self, args: Namespace) -> int:
        """Carry it out; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        policy = Policy.from_label(args.policy) if args.policy else None
        with ExitStack() as stack:
            lines = sys.stdin
            if args.script != "-":
                try:
                    lines = stack.enter_context(open(args.script, errors="replace"))
                except OSError as error:
                    raise UsageError(f"{args.script} cannot be read: {error.strerror}.") from error
            script = read_recording(lines, policy)
        with TraceFile(args.output, force=args.force) as file:
            processes = 0
            for number, pid, record in script.records():
                file.write(number, pid, record)
                processes = number
            file.end()
        complain(
            f"{args.output}: {counted(processes, 'process')}, "
            f"{counted(file.events, 'event')} out of {counted(script.lines, 'line')}, "
            f"{script.strange:,} not understood"
        )
        return 0
