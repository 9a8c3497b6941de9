"""`ptescope export`: a trace in the forms of other tools."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from shadow.errors import UsageError
from shadow.output import create
from shadow.replay import open_trace, to_parquet, to_perfetto
from shadow.table import prepare
from tracer.commands import add_max_memory, positive
from tracer.say import complain

__all__ = ("Export",)


class Export:
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
            type=positive,
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
        damage = None
        try:
            if args.parquet:
                with (
                    open_trace(args.trace, args.max_memory) as reader,
                    os.fdopen(create(args.parquet, force=args.force), "wb") as table,
                ):
                    damage = to_parquet(reader, table)
            if args.perfetto:
                prepare()
                with (
                    open_trace(args.trace, args.max_memory) as reader,
                    os.fdopen(create(args.perfetto, force=args.force), "w") as counters,
                ):
                    damage = to_perfetto(reader, counters, args.interval, args.max_memory)
        except OSError as error:
            raise UsageError(f"It cannot be written to its end: {error.strerror}.") from error
        if damage is None:
            return 0
        complain(damage)
        return damage.status
