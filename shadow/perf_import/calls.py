# SPDX-License-Identifier: GPL-2.0-only
"""System calls in the texts of other tools, as events by the rules of `shadow.call_rules`.

Where the probes would report a doubt, so that a reading settles it, an import has nothing
to read and leaves the event out.
"""

from shadow.call_rules import CALLS, CallEvent, at_entry, at_return
from shadow.events import Kind
from shadow.perf_import.said import OddLineError

__all__ = ("ARGUMENTS", "entered", "returned", "sized")

_WORD = (1 << 64) - 1

ARGUMENTS = {call: rule.arguments for call, rule in CALLS.items()}
"""The arguments that matter of each call that changes page tables, as tracepoints name them."""


def sized(call: str, arguments: list[int]) -> list[int]:
    """The arguments of a call as registers hold them.

    Raises:
        OddLineError: there are too few.
    """
    needed = len(ARGUMENTS[call])
    if len(arguments) < needed:
        raise OddLineError(f"{call} with {len(arguments)} arguments")
    return [argument & _WORD for argument in arguments[:needed]]


def entered(call: str, arguments: list[int]) -> list[CallEvent]:
    """The event of a call that is entered, if it has one."""
    event = at_entry(call, arguments)
    return [] if event is None else [event]


def returned(call: str, arguments: list[int], result: int) -> list[CallEvent]:
    """The events of a call that returned `result`, or minus an error number."""
    return [event for event in at_return(call, arguments, result) if event[0] != Kind.DOUBT]
