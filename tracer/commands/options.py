# SPDX-License-Identifier: GPL-2.0-only
"""Arguments that several commands share."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace, _ActionsContainer

from shadow.errors import UsageError
from shadow.memory_limit import MAX_MEMORY
from tracer.commands.argument_types import natural, size
from tracer.probes.sources import Backend
from tracer.stacks.libdw import libdw

__all__ = ("add_backend", "add_max_memory", "add_stacks", "add_traces", "stack_rate")

_STACK_RATE = 1000
_MOST_STACKS = 100_000

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


def add_traces(parser: _ActionsContainer, *, nargs: str) -> None:
    """Declare the traces of a command that takes many; see `shadow.replay.find_traces`."""
    parser.add_argument(
        "traces",
        nargs=nargs,
        metavar="TRACE",
        help="a trace, a folder of *.arrows, a pattern, or a URL of these",
    )


def add_stacks(parser: ArgumentParser) -> None:
    """Declare the options for stacks of user code."""
    stacks = parser.add_argument_group(
        "stacks", "The code that made and emptied PTE pages. This needs libdw (elfutils)."
    )
    stacks.add_argument(
        "--stacks",
        action="store_true",
        help="take the user stacks of calls that can empty or make a PTE page, and of faults "
        "that make one",
    )
    stacks.add_argument(
        "--stack-rate",
        type=natural,
        metavar="N",
        help=f"take at most N stacks a second (default: {_STACK_RATE})",
    )


def stack_rate(args: Namespace) -> int | None:
    """The maximum number of stacks a second; None: take none.

    Raises:
        UsageError: the options contradict each other.
        UnsupportedHostError: libdw is missing.
    """
    if not args.stacks:
        if args.stack_rate is not None:
            raise UsageError("--stack-rate needs --stacks.")
        return None
    rate: int = args.stack_rate or _STACK_RATE
    if rate > _MOST_STACKS:
        raise UsageError(f"--stack-rate takes at most {_MOST_STACKS:,}.")
    libdw()
    return rate
