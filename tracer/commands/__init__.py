"""The commands of ptescope, one class and one file each."""

from argparse import ArgumentParser, Namespace
from typing import Protocol

__all__ = ("Command", "positive")


def positive(text: str) -> float:
    """A number above 0, as an argument."""
    value = float(text)
    if not value > 0:
        raise ValueError(text)
    return value


class Command(Protocol):
    """What `tracer.cli` needs of a command; its docstring is its help."""

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""

    def run(self, args: Namespace, /) -> int:
        """Carry it out; returns the exit status."""
