# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope report`: a trace as one HTML page."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from shadow.report.page.data import Source
from tracer.commands.advised import add_keep, advise_on_traces
from tracer.commands.options import add_max_memory, add_traces
from tracer.commands.page import HtmlPage
from tracer.terminal import complain

__all__ = ("ReportCommand",)


class ReportCommand:
    """Write traces as one HTML page: charts, a map of the address space, and advice.

    The page needs no network and no other file. It needs no rights to make it.
    """

    example = "ptescope report redis.arrows -o redis.html"

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        source = parser.add_argument_group("traces")
        add_traces(source, nargs="+")
        add_keep(source)
        add_max_memory(source)
        output = parser.add_argument_group("output")
        output.add_argument(
            "-o",
            "--output",
            type=Path,
            default=Path("report.html"),
            metavar="FILE",
            help="the page (default: report.html)",
        )
        output.add_argument("--force", action="store_true", help="replace an existing file")
        parser.set_defaults(detail=True)

    def run(self, args: Namespace) -> int:
        """Run the command; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        sources: list[Source] = []
        with HtmlPage(args.output, force=args.force) as page:
            advised, processes, problems = advise_on_traces(args.traces, args, sources)
            if processes:
                page.write(advised.document(), processes, sources)
        for problem in problems:
            complain(problem)
        if processes:
            complain(f"{args.output} is ready; open it in a browser")
        return problems[0].status if problems else 0
