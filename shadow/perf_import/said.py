# SPDX-License-Identifier: GPL-2.0-only
"""The content of a line, in types that all formats share."""

from dataclasses import dataclass

from shadow.errors import PtescopeError

__all__ = (
    "LONGEST_LINE", "Called", "Entered", "Forked", "Lost", "OddLineError", "Replaced", "Returned",
    "Said", "Touched", "What", "line_of",
)  # fmt: skip

LONGEST_LINE = 2048
"""Characters; relevant lines have up to 300. Patterns are slow on very long lines."""
_MOST_NS = 1 << 62
_PIDS = range((1 << 22) + 1)
_WORD = range(1 << 64)
_LONGEST_NAME = 64


class OddLineError(PtescopeError):
    """A line that cannot be parsed; the import counts such lines."""


@dataclass(frozen=True)
class Entered:
    """A system call begins."""

    call: str
    arguments: list[int]


@dataclass(frozen=True)
class Returned:
    """The system call of this thread returns."""

    call: str
    result: int


@dataclass(frozen=True)
class Called:
    """A complete system call."""

    call: str
    arguments: list[int]
    result: int


@dataclass(frozen=True)
class Touched:
    """A page fault; `error` is the same as in the event."""

    address: int
    error: int


@dataclass(frozen=True)
class Forked:
    """A new thread of the process, or a new process."""

    child: int
    thread: bool


@dataclass(frozen=True)
class Replaced:
    """A successful execve."""


@dataclass(frozen=True)
class Lost:
    """The recording lost `count` events here."""

    count: int


What = Entered | Returned | Called | Touched | Forked | Replaced | Lost


@dataclass(frozen=True)
class Said:
    """The content of a line.

    Attributes:
        time: time of the line, ns.
        pid: the process; None: the line names only the thread.
        tid: the thread; 0: the line names neither.
        cpu: the CPU; 0 if unknown.
        comm: the name of the thread; empty if unknown.
        what: what happened.
    """

    time: int
    pid: int | None
    tid: int
    cpu: int
    comm: str
    what: What


def line_of(said: Said) -> Said:
    """Return `said` if every number in it is in range.

    Raises:
        OddLineError: a number is out of range.
    """
    what = said.what
    numbers = [said.time]
    match what:
        case Entered() | Called():
            if not all(-(1 << 63) <= number < 1 << 64 for number in what.arguments):
                raise OddLineError("an argument of more than 64 bits")
        case Touched():
            numbers += [what.address, what.error]
        case Lost():
            numbers.append(what.count)
    if isinstance(what, Returned | Called) and what.result not in range(-(1 << 63), 1 << 64):
        raise OddLineError("a result of more than 64 bits")
    pids = [said.pid or 0, said.tid, what.child if isinstance(what, Forked) else 0]
    good = all(number in _WORD for number in numbers) and said.time < _MOST_NS
    if not good or not all(pid in _PIDS for pid in pids) or said.cpu not in range(1 << 16):
        raise OddLineError("a number out of range")
    if len(said.comm) > _LONGEST_NAME:
        raise OddLineError("a name that is too long")
    return said
