# SPDX-License-Identifier: GPL-2.0-only
"""The commands of ptescope, one class and one file each."""

from argparse import ArgumentParser, Namespace
from typing import Protocol

from shadow.room import MAX_MEMORY
from tracer.commands.values import size

__all__ = ("Command", "add_max_memory")


def add_max_memory(parser: ArgumentParser) -> None:
    """Declare what a trace may make us take: it can claim anything."""
    parser.add_argument(
        "--max-memory",
        type=size,
        default=MAX_MEMORY,
        metavar="SIZE",
        help="what page tables of a trace may take; one that claims more is called damaged "
        "(default: 512M)",
    )


class Command(Protocol):
    """What `tracer.cli` needs of a command; its docstring is its help."""

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""

    def run(self, args: Namespace, /) -> int:
        """Carry it out; returns the exit status."""
