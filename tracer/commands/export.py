# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope export`: convert a trace for other tools."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from shadow.errors import DamagedTraceError, UsageError
from shadow.precompile import prepare
from shadow.private_file import NewFile, check_place
from shadow.replay import open_trace, to_parquet, to_perfetto
from shadow.replay.stack_export import (
    replay_stacks,
    to_collapsed,
    to_pprof,
    to_speedscope,
)
from shadow.stack_weights import Event, Weight
from tracer.commands.argument_types import seconds
from tracer.commands.options import add_max_memory
from tracer.terminal import complain

__all__ = ("ExportCommand",)


_STACK_OUTPUTS = ("collapsed", "speedscope", "pprof")
_OUTPUTS = ("parquet", "perfetto", *_STACK_OUTPUTS)


class ExportCommand:
    """Convert a trace to Parquet, counters for the Perfetto UI, or profiles of its stacks.

    ui.perfetto.dev opens the counters: a track for the PTE pages and one for the empty ones, under
    each policy. The profiles weigh the stacks by the empty PTE pages; they need a trace that was
    recorded with --stacks.
    """

    example = "ptescope export redis.arrows --perfetto redis.json"

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        source = parser.add_argument_group("trace")
        source.add_argument("trace", metavar="TRACE", help="a trace, or the URL of one")
        add_max_memory(source)
        output = parser.add_argument_group("output", "Give at least one.")
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
        stacks = parser.add_argument_group("stacks")
        stacks.add_argument(
            "--collapsed",
            type=Path,
            metavar="FILE",
            help="write a line for each stack (flamegraph)",
        )
        stacks.add_argument(
            "--speedscope", type=Path, metavar="FILE", help="write a profile for speedscope.app"
        )
        stacks.add_argument(
            "--pprof", type=Path, metavar="FILE", help="write a profile for pprof (gzip)"
        )
        stacks.add_argument(
            "--weight",
            choices=[each.value for each in Weight],
            default=Weight.PAGES.value,
            help="the PTE pages that are empty at the end, or how long they have been empty "
            "(default: pages)",
        )
        stacks.add_argument(
            "--stack",
            choices=[each.value for each in Event],
            default=Event.EMPTIED.value,
            help="the stack of the event that emptied them, or of the one that made them "
            "(default: emptied)",
        )

    def run(self, args: Namespace) -> int:
        """Run the command; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        outputs = {name: getattr(args, name) for name in _OUTPUTS}
        paths = [path for path in outputs.values() if path is not None]
        if not paths:
            names = ", ".join(f"--{name}" for name in _OUTPUTS)
            raise UsageError(f"Give an output: one or several of {names}, each with a FILE.")
        if len(set(paths)) < len(paths):
            raise UsageError("Two outputs name the same file; give two.")
        for path in paths:
            check_place(path, force=args.force)
        damage = None
        if any(outputs[name] for name in ("perfetto", *_STACK_OUTPUTS)):
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
        if any(outputs[name] for name in _STACK_OUTPUTS):
            damage = _export_stacks(args)
        if damage is None:
            return 0
        complain(damage)
        return damage.status


def _export_stacks(args: Namespace) -> DamagedTraceError | None:
    """Write the profiles of the stacks; returns the damage of the trace, if any."""
    with open_trace(args.trace, args.max_memory) as reader:
        weights = replay_stacks(reader, Event(args.stack), args.max_memory)
    weight = Weight(args.weight)
    if args.collapsed:
        with NewFile(args.collapsed, force=args.force) as place, place.opened("w") as lines:
            to_collapsed(weights, weight, lines)
    if args.speedscope:
        with NewFile(args.speedscope, force=args.force) as place, place.opened("w") as document:
            to_speedscope(weights, weight, args.trace, document)
    if args.pprof:
        with NewFile(args.pprof, force=args.force) as place, place.opened("wb") as profile:
            to_pprof(weights, weight, profile)
    return weights.damage
