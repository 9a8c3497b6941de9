# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope import`: make a trace from a recording of perf, strace or ftrace."""

import sys
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from pathlib import Path

from shadow.errors import UsageError
from shadow.geometry import MODELLED
from shadow.perf_import import PageTables, read_recording
from shadow.plural import counted
from shadow.policy import POLICIES, Policy
from shadow.trace import TraceFile
from tracer.commands.argument_types import size
from tracer.terminal import complain

__all__ = ("ImportCommand",)


class ImportCommand:
    """Make a trace from the output of perf, strace or ftrace.

    This is for hosts that have one of these tools and nothing else. ptescope recognises perf
    script, perf trace, strace -f, trace-cmd report and tracefs by content. The report of a
    replay says what the recording lacks.
    """

    example = "ptescope import perf.txt -o perf.arrows"

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        source = parser.add_argument_group("recording")
        source.add_argument(
            "script",
            metavar="FILE",
            help="the output of perf script, perf trace, strace -f, trace-cmd report or tracefs; "
            "- for standard input",
        )
        source.add_argument(
            "--policy",
            choices=[policy.label for policy in POLICIES],
            help="the policy of the recorded kernel (default: derived from its release)",
        )
        source.add_argument(
            "--arch",
            choices=sorted({each.arch for each in MODELLED}),
            help="the architecture of the recorded kernel (default: as the header of perf script "
            "says, else x86-64)",
        )
        source.add_argument(
            "--page-size",
            type=size,
            metavar="SIZE",
            help="the page size of the recorded kernel, such as 64K (default: derived from its "
            "release and from addresses)",
        )
        output = parser.add_argument_group("output")
        output.add_argument(
            "-o", "--output", type=Path, required=True, metavar="TRACE", help="the trace to write"
        )
        output.add_argument("--force", action="store_true", help="replace an existing trace")

    def run(self, args: Namespace) -> int:
        """Run the command; returns the exit status.

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
            script = read_recording(lines, policy, PageTables(args.arch, args.page_size))
        with TraceFile(args.output, force=args.force) as file:
            processes = 0
            for number, pid, record in script.records():
                file.write(number, pid, record)
                processes = number
            file.end()
        complain(
            f"{args.output}: {counted(processes, 'process')}, "
            f"{counted(file.events, 'event')} from {counted(script.lines, 'line')}, "
            f"{script.strange:,} not understood"
        )
        return 0
