# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope census`: read the page tables of processes as they are now."""

import sys
from argparse import ArgumentParser, Namespace
from socket import gethostname
from typing import TYPE_CHECKING

import psutil
from rich.console import Console
from rich.progress import track

from shadow.errors import NoSuchTargetError, PtescopeError, UsageError
from shadow.family import Family, families
from shadow.policy import Policy
from shadow.report.census import census_table, render_census
from shadow.report.family import families_table, render_family
from shadow.snapshot import Snapshot, document
from tracer.census import open_reader
from tracer.census.take import take_census
from tracer.commands import argument_types
from tracer.commands.family_keys import KEYS, MAPPING
from tracer.commands.output import print_report
from tracer.commands.page import HtmlPage, add_html
from tracer.daemon.discovery import within_cgroup
from tracer.kernel import kernel_facts
from tracer.process.find import find_all_by_name
from tracer.process.target import open_target
from tracer.procfs import cgroup_of, vm_pte_kib
from tracer.terminal import complain

if TYPE_CHECKING:
    from shadow.report.page.data import PageProcess

__all__ = ("CensusCommand",)


def _by_size() -> list[int]:
    """The pids of all processes with an address space, largest page tables first."""
    sizes = {}
    for pid in psutil.pids():
        try:
            sizes[pid] = vm_pte_kib(pid)
        except OSError:
            continue  # a kernel thread, or the process has ended
    return sorted(sizes, key=lambda pid: -sizes[pid])


def _text(found: list[Snapshot], sums: list[Family], args: Namespace) -> str:
    if args.by and args.by != MAPPING:
        return families_table(sums)
    if args.by:
        return "\n\n".join(map(render_family, sums))
    if args.pids:
        return "\n\n".join(map(render_census, found))
    return "\n\n".join([census_table(found), *map(render_family, sums)])


class CensusCommand:
    """Read the page tables of processes as they are now.

    The census neither stops nor changes a process. It compares the sum of all tables with VmPTE,
    and reads again if the process changes its tables in the meantime.
    """

    example = "ptescope census --all"

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        target = parser.add_argument_group(
            "target", "Give one or more PIDs, or one of -n, --cgroup and --all."
        )
        target.add_argument(
            "pids", nargs="*", type=argument_types.pid, metavar="PID", help="read this process"
        )
        target.add_argument(
            "-a",
            "--all",
            action="store_true",
            help="read every process, and print one line for each, largest first",
        )
        target.add_argument(
            "-n", "--name", help="read every process with this name, and add their sums"
        )
        target.add_argument(
            "--cgroup", metavar="PATTERN",
            help="read every process in or below the cgroups that match, and add their sums",
        )  # fmt: skip
        report = parser.add_argument_group("report")
        report.add_argument(
            "--by", choices=tuple(KEYS), metavar="KEY",
            help=f"print sums instead of processes, by {', '.join(KEYS)}",
        )  # fmt: skip
        report.add_argument(
            "--json", action="store_true", help="print the report as JSON (schema 1)"
        )
        report.add_argument("--slots", action="store_true", help="list the empty slots")
        add_html(report)
        report.add_argument("--force", action="store_true", help="replace an existing page")

    def run(self, args: Namespace) -> int:
        """Run the command; returns the exit status.

        Raises:
            PtescopeError: see the exit statuses of the output contract.
        """
        chosen = bool(args.pids), args.all, args.name is not None, args.cgroup is not None
        if sum(chosen) != 1:
            raise UsageError(
                "Give either one or more PIDs or --all, or one of -n NAME and --cgroup PATTERN."
            )
        if args.by and args.slots and not args.json:
            raise UsageError(
                "--by prints sums without slots. Give either --by or --slots, or add --json."
            )
        page = HtmlPage(args.html, force=args.force)
        kernel = kernel_facts()
        reader = open_reader(kernel.geometry)
        found, failed = [], []
        pids = track(
            _chosen(args),
            description="reading",
            console=Console(stderr=True),
            transient=True,
            disable=bool(args.pids) or not sys.stderr.isatty(),
        )
        for pid in pids:
            try:
                found.append(
                    take_census(
                        reader, open_target(pid), kernel, slots=args.slots, pages=page.wanted
                    )
                )
            except PtescopeError as error:
                failed.append(error)
            except OSError as error:
                failed.append(
                    NoSuchTargetError(f"Process {pid} cannot be read: {error.strerror or error}.")
                )
        reader.close()
        if failed and not found:
            raise failed[0]
        sums = _sums(found, args)
        plain = document(found, [family.as_json() for family in sums])
        with page:
            page.write(plain, [_on_page(snapshot) for snapshot in found] if page.wanted else [])
        print_report(
            plain,
            lambda: _text(found, sums, args),
            as_json=args.json,
        )
        for problem in failed:
            complain(problem)
        return 0 if not args.pids or not failed else failed[0].status


def _on_page(snapshot: Snapshot) -> "PageProcess":
    from shadow.cells import cells_of_pages  # only a page needs these
    from shadow.report.page.data import PageProcess

    policy = Policy.from_label(snapshot.kernel.policy)
    pages = snapshot.pages
    cells = [cells_of_pages(pages, policy)] if pages is not None else []
    return PageProcess(0, [snapshot], cells, host=gethostname())


def _chosen(args: Namespace) -> list[int]:
    """The processes to read.

    Raises:
        NoSuchTargetError: no process has that name, or no process is in that cgroup.
    """
    if args.name is not None:
        return find_all_by_name(args.name)
    if args.cgroup is not None:
        found = [pid for pid in _by_size() if _within(pid, args.cgroup)]
        if not found:
            raise NoSuchTargetError(f"No process is in a cgroup that matches {args.cgroup!r}.")
        return found
    pids: list[int] = _by_size() if args.all else args.pids
    return pids


def _within(pid: int, pattern: str) -> bool:
    try:
        return within_cgroup(cgroup_of(pid), pattern)
    except OSError:
        return False  # the process has ended


def _sums(found: list[Snapshot], args: Namespace) -> list[Family]:
    """The sums that the arguments ask for."""
    if args.by:
        return families(args.by, found, KEYS[args.by])
    if args.name is not None:
        return families("name", found, lambda _: args.name)
    if args.cgroup is not None:
        return families("cgroup", found, lambda _: args.cgroup)
    return []
