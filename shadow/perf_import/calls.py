# SPDX-License-Identifier: GPL-2.0-only
"""System calls as other tools tell them, as the events that the probes make of them.

The same rules as in `tracer/bpf/probes`: what a failed call has done, and which
calls give addresses away before they return.
"""

from shadow.events import MAP_FLAGS_SHIFT, PARTLY, Kind
from shadow.geometry import PAGE
from shadow.perf_import.said import OddLineError

__all__ = ("ARGUMENTS", "Event", "advised", "entered", "returned", "sized")

ARGUMENTS = {
    "brk": "brk",
    "madvise": "start len_in behavior",
    "mlock": "start len",
    "mlock2": "start len flags",
    "mlockall": "flags",
    "mmap": "addr len prot flags",
    "mprotect": "start len prot",
    "mremap": "addr old_len new_len flags",
    "munlock": "start len",
    "munlockall": "",
    "munmap": "addr len",
    "pkey_mprotect": "start len prot",
}
"""The arguments that matter of each call that changes page tables, as tracepoints name them."""

_WORD = (1 << 64) - 1
_AUX = (1 << 32) - 1
_MAX_ERRNO = 4095
_ENOMEM, _EINVAL = 12, 22
_PROT = 0xFF
_PROT_BITS = _FLAGS = 0x3FFFFFFF
_DONTNEED, _FREE, _REMOVE = 4, 8, 9
_POPULATES = (22, 23)
_DONTNEED_LOCKED = 24

Event = tuple[Kind, int, int, int]
"""Kind, address, length, aux."""


def _page_up(length: int) -> int:
    return (length + PAGE - 1) & -PAGE & _WORD


def sized(call: str, a: list[int]) -> list[int]:
    """The arguments of a call as registers hold them.

    Raises:
        OddLineError: they are too few.
    """
    needed = len(ARGUMENTS[call].split())
    if len(a) < needed:
        raise OddLineError(f"{call} with {len(a)} arguments")
    return [argument & _WORD for argument in a[:needed]]


def _advice(start: int, length: int, advice: int, result: int) -> Event | None:
    """As on_advice of the probes."""
    if start % PAGE:
        return None
    zapped = result in (0, -_ENOMEM, -_EINVAL)
    done = result in (0, -_ENOMEM)
    kind, happened = Kind.ADVISE, done
    if advice in (_DONTNEED, _DONTNEED_LOCKED):
        kind, happened = Kind.DONTNEED, zapped
    elif advice == _FREE:
        kind, happened = Kind.FREE, zapped
    elif advice in _POPULATES:
        kind, happened = Kind.POPULATE, True
    elif advice == _REMOVE:
        kind = Kind.TRUNCATE
    return (kind, start, _page_up(length), advice & _AUX) if happened else None


def entered(call: str, a: list[int]) -> Event | None:
    """The event of a call that gives addresses away before it returns."""
    if call == "munmap":
        return Kind.UNMAP_BEGIN, a[0], _page_up(a[1]), 0
    if call == "mremap":
        return Kind.REMAP_FROM, a[0], _page_up(a[1]), a[3] & _AUX
    return None


def returned(call: str, a: list[int], result: int) -> Event | None:
    """The event of a call that returned, as `read_event` of the probes."""
    failed = -_MAX_ERRNO <= result < 0
    partly = PARTLY if failed else 0
    if call == "madvise":
        return _advice(a[0], a[1], a[2], result)
    if call == "munmap":
        return Kind.UNMAP, a[0], 0 if failed else _page_up(a[1]), 0
    if call == "mremap":
        return Kind.REMAP_TO, a[0] if failed else result, 0 if failed else _page_up(a[2]), 0
    if failed and result != -_ENOMEM:
        return None
    if call in ("mprotect", "pkey_mprotect"):
        return Kind.PROTECT, a[0], _page_up(a[1]), a[2] & _PROT_BITS | partly
    if call in ("mlock", "mlock2", "munlock"):
        start = a[0] & -PAGE
        length = _page_up(a[0] + a[1]) - start & _WORD
        flags = a[2] & _FLAGS if call == "mlock2" else 0
        return Kind.UNLOCK if call == "munlock" else Kind.LOCK, start, length, flags | partly
    if failed:
        return None
    if call == "mmap":
        flags = a[3] << MAP_FLAGS_SHIFT & _AUX
        return Kind.MAP, result, _page_up(a[1]), a[2] & _PROT | flags
    if call == "brk":
        return (Kind.BRK, result, 0, 0) if a[0] in (0, result) else None
    if call == "mlockall":
        return Kind.LOCK, 0, 0, a[0] & _FLAGS
    return (Kind.UNLOCK, 0, 0, 0) if call == "munlockall" else None


def advised(advice: int, ranges: list[tuple[int, int]], result: int) -> list[Event]:
    """The events of process_madvise: the vectors count until `result` bytes are used up."""
    found = []
    for start, length in ranges:
        if result <= 0 or advice not in (_DONTNEED, _FREE, _DONTNEED_LOCKED):
            break
        event = _advice(start & _WORD, length & _WORD, advice, 0)
        found += [event] if event else []
        result -= length
    return found
