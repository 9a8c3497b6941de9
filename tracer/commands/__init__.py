# SPDX-License-Identifier: GPL-2.0-only
"""The commands of ptescope, one class and one file each."""

from argparse import ArgumentParser, Namespace
from typing import Protocol

__all__ = ("Command",)


class Command(Protocol):
    """What `tracer.cli` needs of a command."""

    example: str
    """A command line that `--help` shows."""

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""

    def run(self, args: Namespace, /) -> int:
        """Run the command; returns the exit status."""
