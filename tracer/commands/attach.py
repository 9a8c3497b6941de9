# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope attach`: follow one process and report on its page tables."""

from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from shadow.errors import UsageError
from shadow.family import followed_together
from shadow.private_file import NewFile, check_place
from shadow.report.family import render_family
from shadow.report.text import render
from shadow.snapshot import document
from tracer.commands.courses import Courses
from tracer.commands.followed_tree import prepare_target, run_tree
from tracer.commands.output import print_report
from tracer.commands.page import HtmlPage, add_html
from tracer.follow.loop import Stop
from tracer.terminal import complain

if TYPE_CHECKING:
    from shadow.trace import TraceWriter

__all__ = ("AttachCommand",)


class AttachCommand:
    """Follow a process and report on its PTE pages.

    ptescope neither stops nor changes the process. It reports when the time is over, when the
    process ends, or on Ctrl-C.
    """

    example = "ptescope attach -n redis-server -d 60 -i 5"

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.usage = (
            "ptescope attach (-p PID | -n NAME | -- CMD ...) [-f] [-d SECONDS] [-i SECONDS]\n"
            "                       [--audit SECONDS] [-o TRACE [--redact]] [--report FILE]\n"
            "                       [--html FILE] [--force] [--json] [--slots]\n"
            "                       [--stacks [--stack-rate N]] [--ring KIB] [--backend NAME]"
        )
        prepare_target(parser)
        report = parser.add_argument_group("report")
        report.add_argument(
            "--json", action="store_true", help="print the report as JSON (schema 1)"
        )
        report.add_argument("--slots", action="store_true", help="list the empty slots")
        report.add_argument(
            "--report", type=Path, metavar="FILE",
            help="write the report to FILE, apart from what CMD prints",
        )  # fmt: skip
        add_html(report)
        report.add_argument(
            "-o", "--output", type=Path, metavar="TRACE", help="also write a trace for replay"
        )

    def run(self, args: Namespace) -> int:
        """Run the command; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        check_place(args.report, force=args.force)
        given = [path for path in (args.output, args.report, args.html) if path]
        if len(set(given)) < len(given):
            raise UsageError(
                "Two of -o, --report and --html name the same file; give different ones."
            )
        with Stop() as stop, ExitStack() as files:
            page = files.enter_context(HtmlPage(args.html, force=args.force))
            made: list[NewFile] = []

            def make_report() -> None:
                if args.report:
                    made.append(files.enter_context(NewFile(args.report, force=args.force)))
                    made[0].publish_if_folder_is_anothers()
                page.make()

            courses = Courses()
            tree, writer = run_tree(
                args,
                stop,
                stop_without_trace=False,
                before_rights_drop=make_report,
                more_tasks=lambda tree: [courses.task(tree.sessions)] if page.wanted else [],
            )
            if writer:
                files.callback(_end_trace, writer)  # even if writing the report fails
            snapshots = [session.snapshot(slots=args.slots) for session in tree.sessions]
            file = files.enter_context(made[0].opened("w")) if made else None
            together = followed_together(snapshots)
            plain = document(snapshots, [family.as_json() for family in together])
            if page.wanted:
                page.write(plain, courses.processes(tree.sessions))
            print_report(
                plain,
                lambda: "\n\n".join([*map(render, snapshots), *map(render_family, together)]),
                as_json=args.json,
                to=file,
            )
        return 0


def _end_trace(writer: "TraceWriter") -> None:
    writer.close()
    complain(writer.summary())
