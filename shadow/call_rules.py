# SPDX-License-Identifier: GPL-2.0-only
"""The event of each system call: one table for every source of events.

The BPF probes (`tracer/bpf/probes/calls.c`) apply these rules in the kernel and take the
kinds and masks from here. The import of other tools' output applies them in Python. A live
test makes every call and compares the events of both with this table.

A call becomes an event when it returns. munmap and mremap become a second event at their
entry, because other threads may map their addresses before they return.
"""

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType

from shadow.events import MAP_FLAGS_SHIFT, PARTLY, PKEY_SHIFT, UNFILLED, Doubt, Kind
from shadow.geometry import X86_64
from shadow.uapi import (
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_REMOVE,
    MREMAP_FIXED,
)

__all__ = (
    "ADVICE",
    "CALLS",
    "DEFINES",
    "AdviceRule",
    "CallEvent",
    "CallRule",
    "Failure",
    "advised_vectors",
    "at_entry",
    "at_return",
)

CallEvent = tuple[Kind, int, int, int]
"""Kind, address, length and aux of an event."""
_Placed = tuple[int, int, int]
"""Address, length and aux of an event."""

MAX_ERRNO = 4095
PROT_MASK = 0xFF
MAP_FLAGS_MASK = 0x1FFFFF
"""The flags of mmap that events carry; the higher bits of `aux` have other meanings."""
PKEY_MASK = 0x1F
_WORD, _AUX = (1 << 64) - 1, (1 << 32) - 1
_FLAGS = _AUX & ~(PARTLY | UNFILLED)


class Failure(Enum):
    """The effect of a call that returns an error."""

    NOTHING = auto()
    """The call has no effect and becomes no event."""
    CANCELS = auto()
    """The call has no effect; an event of length 0 cancels the event of its entry."""
    PARTLY = auto()
    """After ENOMEM, the call has done its work up to the first hole (`PARTLY` in aux). After
    other errors, its effect is in doubt. If the end of the range wraps around, the kernel refuses
    the call first, and it has no effect."""


@dataclass(frozen=True)
class CallRule:
    """How a call becomes an event.

    Attributes:
        arguments: the names of the relevant arguments in the tracepoints, in order.
        kind: the kind of the event at the return.
        place: computes address, length and aux from the arguments, the result of a
            successful call, and the size of a page. For `Failure.PARTLY` the arguments and
            the page must suffice.
        failure: the effect of a failed call.
        entry_kind: the kind of the event at the entry, if there is one.
        entry_place: computes address, length and aux of the event at the entry likewise.
    """

    arguments: tuple[str, ...]
    kind: Kind
    place: Callable[[Sequence[int], int, int], _Placed]
    failure: Failure
    entry_kind: Kind | None = None
    entry_place: Callable[[Sequence[int], int], _Placed] = lambda _a, _page: (0, 0, 0)


@dataclass(frozen=True)
class AdviceRule:
    """How an madvise becomes an event.

    Attributes:
        kind: the kind of the event.
        done_in_spite_of: errors after which the advice still applied to a part of the range:
            the walk skips holes (ENOMEM) and stops at a VMA that refuses (EINVAL). After other
            errors the effect is in doubt. None: the call is an event whatever it returns.
    """

    kind: Kind
    done_in_spite_of: frozenset[int] | None


_HOLES = frozenset({errno.ENOMEM})
_HOLES_AND_REFUSALS = frozenset({errno.ENOMEM, errno.EINVAL})

ADVICE: Mapping[int, AdviceRule] = MappingProxyType(
    {
        MADV_DONTNEED: AdviceRule(Kind.DONTNEED, _HOLES_AND_REFUSALS),
        MADV_DONTNEED_LOCKED: AdviceRule(Kind.DONTNEED, _HOLES_AND_REFUSALS),
        MADV_FREE: AdviceRule(Kind.FREE, _HOLES_AND_REFUSALS),
        MADV_POPULATE_READ: AdviceRule(Kind.POPULATE, None),
        MADV_POPULATE_WRITE: AdviceRule(Kind.POPULATE, None),
        MADV_REMOVE: AdviceRule(Kind.TRUNCATE, _HOLES),
    }
)
"""Advice with its own kind of event."""
_OTHER_ADVICE = AdviceRule(Kind.ADVISE, _HOLES)


def _page_up(length: int, page: int) -> int:
    return (length + page - 1) & -page & _WORD


def _wraps(a: Sequence[int], page: int) -> bool:
    """Whether the end of the range wraps around the last address."""
    length = _page_up(a[1], page)
    return length < a[1] or a[0] + length > _WORD


def _range(a: Sequence[int], _result: int, page: int) -> _Placed:
    return a[0], _page_up(a[1], page), 0


def _advised(a: Sequence[int], _result: int, page: int) -> _Placed:
    return a[0], _page_up(a[1], page), a[2] & _AUX


def _mapped(a: Sequence[int], result: int, page: int) -> _Placed:
    flags = (a[3] & MAP_FLAGS_MASK) << MAP_FLAGS_SHIFT
    return result, _page_up(a[1], page), a[2] & PROT_MASK | flags


def _moved(a: Sequence[int], result: int, page: int) -> _Placed:
    return result, _page_up(a[2], page), 0


def _move_begins(a: Sequence[int], page: int) -> _Placed:
    return a[0], _page_up(a[1], page), a[3] & _AUX


def _protected(a: Sequence[int], _result: int, page: int) -> _Placed:
    return a[0], _page_up(a[1], page), a[2] & PROT_MASK


def _protected_by_key(a: Sequence[int], result: int, page: int) -> _Placed:
    start, length, prot = _protected(a, result, page)
    return start, length, prot | ((a[3] + 1) & PKEY_MASK) << PKEY_SHIFT


def _locked(a: Sequence[int], _result: int, page: int) -> _Placed:
    start = a[0] & -page
    return start, _page_up(a[0] + a[1], page) - start & _WORD, 0


def _locked_as(a: Sequence[int], result: int, page: int) -> _Placed:
    start, length, _ = _locked(a, result, page)
    return start, length, a[2] & _FLAGS


CALLS: Mapping[str, CallRule] = MappingProxyType(
    {
        "madvise": CallRule(
            ("start", "len_in", "behavior"), Kind.ADVISE, _advised, Failure.PARTLY
        ),
        "munmap": CallRule(
            ("addr", "len"), Kind.UNMAP, _range, Failure.CANCELS,
            entry_kind=Kind.UNMAP_BEGIN, entry_place=lambda a, page: _range(a, 0, page),
        ),
        "mremap": CallRule(
            ("addr", "old_len", "new_len", "flags"), Kind.REMAP_TO, _moved, Failure.CANCELS,
            entry_kind=Kind.REMAP_FROM, entry_place=_move_begins,
        ),
        "mmap": CallRule(("addr", "len", "prot", "flags"), Kind.MAP, _mapped, Failure.NOTHING),
        "brk": CallRule(("brk",), Kind.BRK, lambda _, result, _p: (result, 0, 0), Failure.NOTHING),
        "mprotect": CallRule(("start", "len", "prot"), Kind.PROTECT, _protected, Failure.PARTLY),
        "pkey_mprotect": CallRule(
            ("start", "len", "prot", "pkey"), Kind.PROTECT, _protected_by_key, Failure.PARTLY
        ),
        "mlock": CallRule(("start", "len"), Kind.LOCK, _locked, Failure.PARTLY),
        "mlock2": CallRule(("start", "len", "flags"), Kind.LOCK, _locked_as, Failure.PARTLY),
        "munlock": CallRule(("start", "len"), Kind.UNLOCK, _locked, Failure.PARTLY),
        "mlockall": CallRule(
            ("flags",), Kind.LOCK, lambda a, _, _page: (0, 0, a[0] & _FLAGS), Failure.NOTHING
        ),
        "munlockall": CallRule((), Kind.UNLOCK, lambda _a, _r, _page: (0, 0, 0), Failure.NOTHING),
    }
)  # fmt: skip
"""Calls of a process on its own page tables. `ADVICE` completes the rule of madvise."""

DEFINES: Mapping[str, int] = MappingProxyType(
    {
        **{f"KIND_OF_{name.upper()}": rule.kind.value for name, rule in CALLS.items()},
        **{
            f"KIND_AT_ENTRY_OF_{name.upper()}": rule.entry_kind.value
            for name, rule in CALLS.items()
            if rule.entry_kind
        },
        "KIND_OF_OTHER_ADVICE": _OTHER_ADVICE.kind.value,
        "PARTLY": PARTLY,
        "MAX_ERRNO": MAX_ERRNO,
        "PROT_MASK": PROT_MASK,
        "MAP_FLAGS_MASK": MAP_FLAGS_MASK,
        "PKEY_MASK": PKEY_MASK,
    }
)
"""Macros for the BPF C code."""


def at_entry(call: str, a: Sequence[int], page: int = X86_64.page) -> CallEvent | None:
    """The event at the entry of a call, if there is one.

    Args:
        call: one of `CALLS`.
        a: the arguments, as registers hold them.
        page: the size of a page.
    """
    rule = CALLS[call]
    return None if rule.entry_kind is None else (rule.entry_kind, *rule.entry_place(a, page))


def at_return(call: str, a: Sequence[int], result: int, page: int = X86_64.page) -> list[CallEvent]:
    """The events at the return of a call; DOUBT means that its effect is unknown.

    Args:
        call: one of `CALLS`.
        a: the arguments, as registers hold them.
        result: the return value, or minus the error number.
        page: the size of a page.
    """
    error = -result if -MAX_ERRNO <= result < 0 else 0
    rule = CALLS[call]
    if error and rule.failure is Failure.PARTLY and _wraps(a, page):
        return []
    if call == "madvise":
        return _at_madvise(a, error, page)
    doubt = [(Kind.DOUBT, a[0], _page_up(a[1], page), Doubt.CALL.value)] if len(a) > 1 else []
    if not error:
        if call == "brk" and a[0] not in (0, result):
            return []  # refused: brk returns the old break
        return [(rule.kind, *rule.place(a, result, page))]
    match rule.failure:
        case Failure.CANCELS:
            # mremap unmaps the target of a fixed move first.
            moved = call == "mremap" and a[3] & MREMAP_FIXED
            anywhere = [(Kind.DOUBT, 0, 0, Doubt.CALL.value)] if moved else []
            return [(rule.kind, a[0], 0, 0), *anywhere]
        case Failure.PARTLY if error == errno.ENOMEM:
            address, length, aux = rule.place(a, 0, page)
            return [(rule.kind, address, length, aux | PARTLY)]
        case Failure.PARTLY:
            return doubt
    return []


def _at_madvise(a: Sequence[int], error: int, page: int) -> list[CallEvent]:
    if a[0] % page:
        return []
    start, length, advice = _advised(a, 0, page)
    rule = ADVICE.get(advice, _OTHER_ADVICE)
    if not error or rule.done_in_spite_of is None or error in rule.done_in_spite_of:
        return [(rule.kind, start, length, advice)]
    return [(Kind.DOUBT, start, length, Doubt.CALL.value)]


def advised_vectors(
    advice: int, ranges: Sequence[tuple[int, int]], result: int, page: int = X86_64.page
) -> list[CallEvent]:
    """The events of a process_madvise that returned `result`: the ranges it has processed."""
    advice &= _AUX
    kind = ADVICE.get(advice, _OTHER_ADVICE).kind
    if kind not in (Kind.DONTNEED, Kind.FREE):
        kind = Kind.ADVISE
    found: list[CallEvent] = []
    for start, length in ranges:
        if result <= 0:
            break
        found.append((kind, start & _WORD, _page_up(length & _WORD, page), advice))
        result -= length
    return found
