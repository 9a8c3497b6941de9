# SPDX-License-Identifier: GPL-2.0-only
"""The import converts every call by `shadow.call_rules`; a live test checks the probes.

Where a rule is not obvious from the kernel's manual it is stated here once more.
"""

import errno
import mmap

import pytest

from shadow import uapi
from shadow.call_rules import CALLS, CallEvent, at_entry, at_return
from shadow.events import MAP_FLAGS_SHIFT, PARTLY, PKEY_SHIFT, Doubt, Kind
from shadow.perf_import import PerfScript
from shadow.perf_import.recording import Recording
from shadow.perf_import.strace import Strace
from shadow.records import Events
from tests.call_steps import AREA, STEPS

_WORD = (1 << 64) - 1
_RESULTS = (0, AREA, -errno.ENOMEM, -errno.EINVAL, -errno.EAGAIN, -errno.EPERM)
_DOUBT = (Kind.DOUBT, AREA, 4096, Doubt.CALL)


def _of(recording: Recording) -> list[CallEvent]:
    assert recording.strange == 0
    batches = [record.batch for _, _, record in recording.records() if isinstance(record, Events)]
    rows = [row for batch in batches for row in batch.tolist()]
    return [(Kind(row[5]), row[1], row[2], row[7]) for row in rows]


def _by_perf(call: str, arguments: list[int], result: int) -> list[CallEvent]:
    named = zip(CALLS[call].arguments, arguments, strict=True)
    fields = ", ".join(f"{name}: {value:#x}" for name, value in named)
    text = (
        "  a 7/7 [000] 0.5: exceptions:page_fault_user: address=0x1000 ip=0x1 error_code=0x6\n"
        f"  a 7/7 [000] 1.0: syscalls:sys_enter_{call}: {fields}\n"
        f"  a 7/7 [000] 1.1: syscalls:sys_exit_{call}: {result & _WORD:#x}\n"
    )
    return _of(PerfScript(text.splitlines()))[1:]


def _by_strace(call: str, arguments: list[int], result: int) -> list[CallEvent]:
    said = ", ".join(f"{value:#x}" for value in arguments)
    ended = f"-1 {errno.errorcode[-result]} (x)" if result < 0 else f"{result:#x}"
    text = f"7 0.5 munmap(0x1000, 4096) = 0\n7 1.0 {call}({said}) = {ended}\n"
    return _of(Recording(text.splitlines(), Strace()))[2:]


def _expected(call: str, arguments: list[int], result: int) -> list[CallEvent]:
    """The events by the rules, in user space; an import omits doubts, as it cannot read again."""
    begun = at_entry(call, arguments)
    events = [*([begun] if begun else []), *at_return(call, arguments, result)]
    return [event for event in events if event[0] != Kind.DOUBT]


_CALLS = sorted({(call, arguments[: len(CALLS[call].arguments)]) for call, arguments in STEPS})


@pytest.mark.parametrize(("call", "arguments"), _CALLS)
def test_an_import_follows_the_rules(call: str, arguments: tuple[int, ...]) -> None:
    given = list(arguments)
    for result in _RESULTS:
        expected = _expected(call, given, result)
        if any(address + length > 1 << 47 for _, address, length, _ in expected):
            continue  # clamped to user space
        locked_nothing = [
            event for event in expected if event[0] in (Kind.LOCK, Kind.UNLOCK) and not event[2]
        ]
        if locked_nothing and call not in ("mlockall", "munlockall"):
            continue  # the import omits it
        assert _by_perf(call, given, result) == expected, result
        assert _by_strace(call, given, result) == expected, result


_RW = mmap.PROT_READ | mmap.PROT_WRITE


@pytest.mark.parametrize(
    ("call", "arguments", "result", "expected"),
    [
        ("madvise", [AREA, 1, uapi.MADV_DONTNEED], -errno.EINVAL, [(Kind.DONTNEED, AREA, 4096, 4)]),
        ("madvise", [AREA, 1, uapi.MADV_DONTNEED], -errno.EAGAIN, [_DOUBT]),
        ("madvise", [AREA, 1, uapi.MADV_REMOVE], -errno.ENOMEM, [(Kind.TRUNCATE, AREA, 4096, 9)]),
        ("madvise", [AREA, 1, uapi.MADV_REMOVE], -errno.EINVAL, [_DOUBT]),
        (
            "madvise",
            [AREA, 1, uapi.MADV_POPULATE_READ],
            -errno.EIO,
            [(Kind.POPULATE, AREA, 4096, 22)],
        ),
        ("madvise", [AREA, 1, 1 << 32 | uapi.MADV_FREE], 0, [(Kind.FREE, AREA, 4096, 8)]),
        ("madvise", [AREA + 1, 1, uapi.MADV_DONTNEED], -errno.EINVAL, []),
        ("madvise", [AREA, _WORD - 4095, uapi.MADV_DONTNEED], -errno.EINVAL, []),
        ("madvise", [AREA, _WORD, uapi.MADV_FREE], -errno.EINVAL, []),
        ("mprotect", [AREA, _WORD - 4095, 1], -errno.ENOMEM, []),
        ("mprotect", [AREA, 1, 1], -errno.ENOMEM, [(Kind.PROTECT, AREA, 4096, 1 | PARTLY)]),
        ("mprotect", [AREA, 1, 1], -errno.EACCES, [_DOUBT]),
        ("pkey_mprotect", [AREA, 1, 1, 3], 0, [(Kind.PROTECT, AREA, 4096, 1 | 4 << PKEY_SHIFT)]),
        ("pkey_mprotect", [AREA, 1, 1, _WORD], 0, [(Kind.PROTECT, AREA, 4096, 1)]),
        # Unknown high flags would overlap bits with other meanings.
        (
            "mmap",
            [0, 1, _RW, 1 << 23 | 0x22],
            AREA,
            [(Kind.MAP, AREA, 4096, 3 | 0x22 << MAP_FLAGS_SHIFT)],
        ),
        (
            "mremap",
            [AREA, 1, 1, 3],
            -errno.EFAULT,
            [(Kind.REMAP_TO, AREA, 0, 0), (Kind.DOUBT, 0, 0, 0)],
        ),
        ("brk", [1], AREA, []),
    ],
)
def test_what_the_rules_say(
    call: str, arguments: list[int], result: int, expected: list[CallEvent]
) -> None:
    assert at_return(call, arguments, result) == expected
