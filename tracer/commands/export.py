# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope export`: a trace in the forms of other tools."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from shadow.errors import UsageError
from shadow.private_file import NewFile, check_place
from shadow.replay import open_trace, to_parquet, to_perfetto
from shadow.table import prepare
from tracer.commands.argument_types import seconds
from tracer.commands.options import add_max_memory
from tracer.terminal import complain

__all__ = ("ExportCommand",)


class ExportCommand:
    """Write a trace as Parquet, or as counters over time for the Perfetto UI.

    The latter is a file that ui.perfetto.dev opens: PTE pages and empty ones
    under each policy, a track each.
    """

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.add_argument("trace", metavar="TRACE", help="the trace, or a URL of it")
        parser.add_argument("--parquet", type=Path, metavar="FILE", help="write all rows")
        parser.add_argument("--perfetto", type=Path, metavar="FILE", help="write counters, as JSON")
        parser.add_argument("--force", action="store_true", help="replace files that are there")
        add_max_memory(parser)
        parser.add_argument(
            "-i",
            "--interval",
            type=seconds,
            default=0.1,
            metavar="SECONDS",
            help="time between two values of a counter (default: 0.1)",
        )

    def run(self, args: Namespace) -> int:
        """Carry it out; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        if args.parquet is None and args.perfetto is None:
            raise UsageError("Give what to write: --parquet FILE, --perfetto FILE, or both.")
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
