# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope export`: convert a trace for other tools."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from shadow.errors import UsageError
from shadow.precompile import prepare
from shadow.private_file import NewFile, check_place
from shadow.replay import open_trace, to_parquet, to_perfetto
from tracer.commands.argument_types import seconds
from tracer.commands.options import add_max_memory
from tracer.terminal import complain

__all__ = ("ExportCommand",)


class ExportCommand:
    """Convert a trace to Parquet, or to counters over time for the Perfetto UI.

    ui.perfetto.dev opens the latter: a track for the PTE pages and one for the empty ones, under
    each policy.
    """

    example = "ptescope export redis.arrows --perfetto redis.json"

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        source = parser.add_argument_group("trace")
        source.add_argument("trace", metavar="TRACE", help="a trace, or the URL of one")
        add_max_memory(source)
        output = parser.add_argument_group("output", "Give at least one of --parquet, --perfetto.")
        output.add_argument(
            "--parquet", type=Path, metavar="FILE", help="write all rows as Parquet"
        )
        output.add_argument(
            "--perfetto", type=Path, metavar="FILE", help="write counters as JSON for Perfetto"
        )
        output.add_argument("--force", action="store_true", help="replace existing files")
        output.add_argument(
            "-i",
            "--interval",
            type=seconds,
            default=0.1,
            metavar="SECONDS",
            help="time between two values of a counter (default: 0.1)",
        )

    def run(self, args: Namespace) -> int:
        """Run the command; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        if args.parquet is None and args.perfetto is None:
            raise UsageError("Give an output: --parquet FILE, --perfetto FILE, or both.")
        if args.parquet == args.perfetto:
            raise UsageError("--parquet and --perfetto name the same file; give two.")
        for path in (args.parquet, args.perfetto):
            check_place(path, force=args.force)
        damage = None
        if args.perfetto:
            prepare()
        if args.parquet:
            with (
                open_trace(args.trace, args.max_memory) as reader,
                NewFile(args.parquet, force=args.force) as place,
                place.opened("wb") as table,
            ):
                damage = to_parquet(reader, table)
        if args.perfetto:
            with (
                open_trace(args.trace, args.max_memory) as reader,
                NewFile(args.perfetto, force=args.force) as place,
                place.opened("w") as counters,
            ):
                damage = to_perfetto(reader, counters, args.interval, args.max_memory)
        if damage is None:
            return 0
        complain(damage)
        return damage.status
