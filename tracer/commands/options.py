# SPDX-License-Identifier: GPL-2.0-only
"""Arguments that several commands share."""

from argparse import ArgumentParser, ArgumentTypeError

from shadow.memory_limit import MAX_MEMORY
from tracer.commands.argument_types import size
from tracer.probes.sources import Backend

__all__ = ("add_backend", "add_max_memory")

_NAMES = ", ".join(Backend)


def _backend(text: str) -> Backend:
    try:
        return Backend(text)
    except ValueError as error:
        raise ArgumentTypeError(f"takes one of {_NAMES}, not {text!a}") from error


def add_backend(parser: ArgumentParser) -> None:
    """Declare the option that forces a back end."""
    parser.add_argument(
        "--backend",
        type=_backend,
        metavar="NAME",
        help=f"attach to {_NAMES} where there are such (default: the best that this kernel allows; "
        "see ptescope doctor)",
    )


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
