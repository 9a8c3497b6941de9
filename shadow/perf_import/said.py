# SPDX-License-Identifier: GPL-2.0-only
"""What lines of a text say, whatever tool printed it."""

from dataclasses import dataclass

from shadow.errors import PtescopeError

__all__ = (
    "LONGEST_LINE", "Called", "Entered", "Forked", "Lost", "OddLineError", "Replaced", "Returned",
    "Said", "Touched", "What", "line_of",
)  # fmt: skip

LONGEST_LINE = 2048
"""Characters; those that matter have 300. Patterns take their time with long ones."""
_MOST_NS = 1 << 62
_PIDS = range((1 << 22) + 1)
_WORD = range(1 << 64)
_LONGEST_NAME = 64


class OddLineError(PtescopeError):
    """A line that cannot be understood; it is counted."""


@dataclass(frozen=True)
class Entered:
    """A system call begins."""

    call: str
    arguments: list[int]


@dataclass(frozen=True)
class Returned:
    """The call of this thread ends."""

    call: str
    result: int


@dataclass(frozen=True)
class Called:
    """A call from beginning to end."""

    call: str
    arguments: list[int]
    result: int


@dataclass(frozen=True)
class Touched:
    """A page fault; `error` as in the event."""

    address: int
    error: int


@dataclass(frozen=True)
class Forked:
    """A new task, a thread of the same process or not."""

    child: int
    thread: bool


@dataclass(frozen=True)
class Replaced:
    """An execve that succeeded."""


@dataclass(frozen=True)
class Lost:
    """So many lines are missing."""

    count: int


What = Entered | Returned | Called | Touched | Forked | Replaced | Lost


@dataclass(frozen=True)
class Said:
    """What a line says, of whom and when.

    Attributes:
        time: ns.
        pid: of the process; None: the line tells the thread alone.
        tid: of the thread; 0: the line tells nobody.
        cpu: where, or 0.
        comm: its name, or "".
        what: it.
    """

    time: int
    pid: int | None
    tid: int
    cpu: int
    comm: str
    what: What


def line_of(said: Said) -> Said:
    """The same, if every number in it can be.

    Raises:
        OddLineError: one cannot.
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
        raise OddLineError("a number that cannot be")
    if len(said.comm) > _LONGEST_NAME:
        raise OddLineError("a name that is too long")
    return said
