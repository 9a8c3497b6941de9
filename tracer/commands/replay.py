# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope replay`: report from traces, on any machine."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import Progress, track

from shadow import replay
from shadow.errors import UsageError
from shadow.family import followed_together
from shadow.policy import POLICIES, Policy
from shadow.precompile import prepare
from shadow.private_file import NewFile, check_place
from shadow.report.family import render_family
from shadow.report.summary_table import as_row, summary_table, write_parquet
from shadow.report.text import interval_header, interval_row, render
from shadow.snapshot import Snapshot, document
from tracer.commands.argument_types import natural, seconds
from tracer.commands.options import add_max_memory, add_traces
from tracer.commands.output import print_report
from tracer.terminal import complain, say

__all__ = ("ReplayCommand",)


class ReplayCommand:
    """Report on recorded processes, from one trace or many.

    Replay needs no rights, no BPF, and nothing of the host that recorded. One trace gives a
    report; several give a table with a row for each process.
    """

    example = "ptescope replay redis.arrows --policy pte_ref"

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        source = parser.add_argument_group("traces")
        add_traces(source, nargs="+")
        source.add_argument(
            "--at",
            type=seconds,
            metavar="SECONDS",
            help="stop SECONDS after the start of the trace",
        )
        add_max_memory(source)
        report = parser.add_argument_group("report")
        report.add_argument(
            "--policy",
            choices=[policy.label for policy in POLICIES],
            help="show the PTE pages under this policy instead of the recorded kernel's",
        )
        report.add_argument(
            "-i", "--interval", type=seconds, metavar="SECONDS", help="print a row every SECONDS"
        )
        report.add_argument(
            "--json", action="store_true", help="print the report as JSON (schema 1)"
        )
        report.add_argument("--slots", action="store_true", help="list the empty slots")
        report.add_argument(
            "--table", action="store_true", help="print a row for each process, even for one trace"
        )
        report.add_argument(
            "--parquet", type=Path, metavar="FILE", help="also write that table as Parquet"
        )
        report.add_argument("--force", action="store_true", help="replace an existing file")
        workers = parser.add_argument_group("workers")
        workers.add_argument(
            "--jobs", type=natural, default=1, metavar="N", help="replay on N processors"
        )
        workers.add_argument(
            "--dask", metavar="ADDRESS", help="replay on the Dask cluster with this scheduler"
        )

    def run(self, args: Namespace) -> int:
        """Run the command; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        urls = replay.find_traces(args.traces)
        if args.interval and len(urls) > 1:
            raise UsageError("-i prints rows for one trace at a time; give one trace.")
        if args.dask and args.jobs > 1:
            raise UsageError("Give one of --jobs and --dask, not both.")
        policy = Policy.from_label(args.policy) if args.policy else None
        question = replay.Question(args.at, policy, args.slots, args.max_memory)
        check_place(args.parquet, force=args.force)
        prepare()
        if len(urls) == 1 and not args.dask:
            outcomes = [_one(urls[0], question, args)]
        else:
            outcomes = list(_many(urls, question, args))
        followed = [(outcome.url, each) for outcome in outcomes for each in outcome.followed]
        rows = [
            as_row(each.snapshot, trace=url, host=each.host, wall_ns=each.wall_ns)
            for url, each in followed
        ]
        if args.parquet and rows:
            with NewFile(args.parquet, force=args.force) as place, place.opened("wb") as file:
                write_parquet(rows, file)
        if rows:
            snapshots = [each.snapshot for _, each in followed]
            as_table = args.table or len(outcomes) > 1
            together = followed_together(snapshots) if len(outcomes) == 1 else []
            print_report(
                document(snapshots, [family.as_json() for family in together]),
                lambda: _text(snapshots, rows, as_table=as_table),
                as_json=args.json,
            )
        problems = [outcome for outcome in outcomes if outcome.problem]
        for outcome in problems:
            complain(outcome.problem)
        return problems[0].status if problems else 0


def _one(url: str, question: replay.Question, args: Namespace) -> replay.TraceResult:
    """Replay one trace, with a progress bar for its bytes and a row at each interval."""
    rows = sys.stderr if args.json else sys.stdout
    with replay.open_trace(url, args.max_memory) as reader, ExitStack() as stack:
        console = Console(stderr=True)
        bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        stack.enter_context(bar)
        task = bar.add_task("replaying", total=reader.size)
        if args.interval:
            say(interval_header(), to=rows)
        run = replay.Replay(
            reader,
            at=question.at,
            max_memory=args.max_memory,
            interval=args.interval,
            row=lambda process, snapshot: _show_row(process, snapshot, rows),
            progress=lambda done: bar.update(task, completed=done),
        )
        run.run()
    return replay.result_of(url, run, question)


def _show_row(process: int, snapshot: Snapshot, rows: TextIO) -> None:
    """Print a row of the first process only: rows of several would be interleaved."""
    if process == 1:
        say(interval_row(snapshot), to=rows)


def _many(
    urls: list[str], question: replay.Question, args: Namespace
) -> Iterator[replay.TraceResult]:
    """Replay many traces, with a progress bar for their number."""
    if args.dask:
        outcomes = replay.replay_on_cluster(urls, question, args.dask)
    else:
        outcomes = replay.replay_all(urls, question, args.jobs)
    console = Console(stderr=True)
    yield from track(
        outcomes,
        total=len(urls),
        description="replaying",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _text(snapshots: list[Snapshot], rows: list[dict[str, Any]], *, as_table: bool) -> str:
    if as_table:
        return summary_table(rows)
    sums = map(render_family, followed_together(snapshots))
    return "\n\n".join([*map(render, snapshots), *sums])
