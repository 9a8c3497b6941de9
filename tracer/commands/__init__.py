"""The commands of ptescope, one class and one file each."""

import re
from argparse import ArgumentParser, Namespace
from typing import Protocol

from shadow.room import MAX_MEMORY

__all__ = ("Command", "add_max_memory", "byte_size", "positive")

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def positive(text: str) -> float:
    """A number above 0, as an argument."""
    value = float(text)
    if not value > 0:
        raise ValueError(text)
    return value


def byte_size(text: str) -> int:
    """A size such as 512M, as an argument."""
    match = re.fullmatch(r"([0-9]{1,12})([KMG]?)(?:iB|B)?", text)
    if not match or not int(match[1]):
        raise ValueError(text)
    return int(match[1]) * _UNITS[match[2]]


def add_max_memory(parser: ArgumentParser) -> None:
    """Declare what a trace may make us take: it can claim anything."""
    parser.add_argument(
        "--max-memory",
        type=byte_size,
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
