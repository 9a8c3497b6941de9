# SPDX-License-Identifier: GPL-2.0-only
"""Arguments that several commands share."""

from argparse import ArgumentTypeError, _ActionsContainer

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


def add_backend(parser: _ActionsContainer) -> None:
    """Declare the option that forces a back end."""
    parser.add_argument(
        "--backend",
        type=_backend,
        metavar="NAME",
        help=f"use this back end where the kernel has it: {_NAMES} (default: the best that this "
        "kernel allows; 'ptescope doctor' shows which)",
    )


def add_max_memory(parser: _ActionsContainer) -> None:
    """Declare the bound on memory for a trace, which is untrusted and can claim any size."""
    parser.add_argument(
        "--max-memory",
        type=size,
        default=MAX_MEMORY,
        metavar="SIZE",
        help="memory that the page tables of a trace may take; a trace that claims more counts as "
        "damaged (default: 512M)",
    )
