# SPDX-License-Identifier: GPL-2.0-only
"""Converts system calls in the output of other tools to events, with `shadow.call_rules`.

Where the probes would report a DOUBT, which a reading then settles, the import cannot read
page tables and omits the event.
"""

from shadow.call_rules import CALLS, CallEvent, at_entry, at_return
from shadow.events import Kind
from shadow.perf_import.said import OddLineError

__all__ = ("ARGUMENTS", "entered", "returned", "sized")

_WORD = (1 << 64) - 1

ARGUMENTS = {call: rule.arguments for call, rule in CALLS.items()}
"""The relevant arguments of each call that changes page tables, under their tracepoint names."""


def sized(call: str, arguments: list[int]) -> list[int]:
    """The relevant arguments of a call, as registers hold them.

    Raises:
        OddLineError: there are too few arguments.
    """
    needed = len(ARGUMENTS[call])
    if len(arguments) < needed:
        raise OddLineError(f"{call} with {len(arguments)} arguments")
    return [argument & _WORD for argument in arguments[:needed]]


def entered(call: str, arguments: list[int], page: int) -> list[CallEvent]:
    """The event at the entry of a call, if there is one."""
    event = at_entry(call, arguments, page)
    return [] if event is None else [event]


def returned(call: str, arguments: list[int], result: int, page: int) -> list[CallEvent]:
    """The events at the return of a call; `result` is its value or minus an error number."""
    events = at_return(call, arguments, result, page)
    return [event for event in events if event[0] != Kind.DOUBT]
