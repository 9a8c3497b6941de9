# SPDX-License-Identifier: GPL-2.0-only
"""Valid and invalid forms of a line of strace."""

import pytest

from shadow.errors import UsageError
from shadow.events import MAP_FLAGS_SHIFT, PARTLY, Kind
from shadow.perf_import import read_recording
from shadow.policy import Policy
from shadow.records import Events, Facts

_AT = 0x7F0000000000
_FIRST = "mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x7f00aaaa0000"
_RANGE = f"{_AT:#x}, 1048576"


def _read(*lines: str) -> list[tuple[int, list[tuple[int, ...]], list[int]]]:
    """Of each process: pid, events (kind, address, length, aux), times; without the first line."""
    recording = read_recording(lines, Policy.NONE)
    assert recording.strange == 0, lines
    found: list[tuple[int, list[tuple[int, ...]], list[int]]] = []
    for _, pid, record in recording.records():
        if isinstance(record, Facts):
            found.append((pid, [], []))
        elif isinstance(record, Events):
            rows = record.batch.tolist()
            found[-1][1].extend((r[5], r[1], r[2], r[7]) for r in rows)
            found[-1][2].extend(r[0] for r in rows)
    return found


def _events(*lines: str) -> list[tuple[int, ...]]:
    ((_, events, _),) = _read(_FIRST, *lines)
    return events[1:]


@pytest.mark.parametrize(
    "line",
    [
        f"madvise({_RANGE}, MADV_DONTNEED) = 0",
        f"madvise({_RANGE}, MADV_DONTNEED)   = 0",
        f"madvise({_RANGE}, MADV_DONTNEED) = 0 <0.000131>",
        f"12:00:00 madvise({_RANGE}, MADV_DONTNEED) = 0",
        f"12:00:00.123456 madvise({_RANGE}, MADV_DONTNEED) = 0",
        f"1795655288.424392 madvise({_RANGE}, MADV_DONTNEED) = 0",
        f"1795655288.424392123 madvise({_RANGE}, MADV_DONTNEED) = 0",
        f"     0.000123 madvise({_RANGE}, MADV_DONTNEED) = 0",
        f"[00007f0011223344] madvise({_RANGE}, MADV_DONTNEED) = 0",
        f"madvise({_RANGE}, 0x4 /* MADV_DONTNEED */) = 0",
        f"madvise({_RANGE}, 0x4) = 0",
        f"madvise({_RANGE}, MADV_DONTNEED) = -1 ENOMEM (Cannot allocate memory)",
        f"madvise({_RANGE}, MADV_DONTNEED) = -1 EINVAL (Invalid argument) <0.1>",
        f"madvise({_AT:#x}, 0x100000, 0x4) = 0",
        f"process_madvise(3, [{{iov_base={_AT:#x}, iov_len=1048576}}], 1, MADV_DONTNEED, 0) "
        "= 1048576",
        f"process_madvise(3<anon_inode:[pidfd]>, [{{iov_base={_AT:#x}, iov_len=1048576}}], 1, "
        "0x4 /* MADV_DONTNEED */, 0) = 1048576",
    ],
)  # fmt: skip
def test_every_printed_form_of_a_purge_is_recognised(line: str) -> None:
    assert _events(line) == [(Kind.DONTNEED, _AT, 1 << 20, 4)]


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (
            f"mmap({_AT:#x}, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, "
            f"0) = {_AT:#x}",
            (Kind.MAP, _AT, 8192, 3 | 0x32 << MAP_FLAGS_SHIFT),
        ),
        (
            "mmap(NULL, 35635, PROT_READ, MAP_PRIVATE, 3</a, b) = 0x1/ld.so.cache>, 0x17c000)"
            f" = {_AT:#x}",
            (Kind.MAP, _AT, 36864, 1 | 2 << MAP_FLAGS_SHIFT),
        ),
        (
            f"mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|0x10000000, -1, 0) = {_AT:#x}",
            (Kind.MAP, _AT, 4096, 0x22 << MAP_FLAGS_SHIFT),
        ),
        (f"brk(NULL) = {_AT:#x}", (Kind.BRK, _AT, 0, 0)),
        (f"brk({_AT:#x}) = {_AT:#x}", (Kind.BRK, _AT, 0, 0)),
        (
            f"mprotect({_AT:#x}, 8192, PROT_NONE) = -1 ENOMEM (Cannot allocate memory)",
            (Kind.PROTECT, _AT, 8192, PARTLY),
        ),
        (f"pkey_mprotect({_AT:#x}, 4096, PROT_READ, 1) = 0", (Kind.PROTECT, _AT, 4096, 1 | 2 << 8)),
        (f"mlock2({_AT:#x}, 4096, MLOCK_ONFAULT) = 0", (Kind.LOCK, _AT, 4096, 1)),
        ("mlockall(MCL_CURRENT|MCL_FUTURE) = 0", (Kind.LOCK, 0, 0, 3)),
        ("munlockall() = 0", (Kind.UNLOCK, 0, 0, 0)),
        (f"madvise({_RANGE}, MADV_POPULATE_WRITE) = 0", (Kind.POPULATE, _AT, 1 << 20, 23)),
        (f"madvise({_RANGE}, MADV_GUARD_INSTALL) = 0", (Kind.ADVISE, _AT, 1 << 20, 102)),
        ("fork() = 77", (Kind.FORK, 77, 0, 0)),
        ("clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x7f) = 77",
         (Kind.FORK, 77, 0, 0)),
        ('execve("/bin/true", ["true"], 0x7ffe /* 35 vars */) = 0', (Kind.EXEC, 0, 0, 0)),
    ],
)  # fmt: skip
def test_a_call_makes_the_event_that_the_probes_make(line: str, event: tuple[int, ...]) -> None:
    assert _events(line) == [event]


@pytest.mark.parametrize(
    "line",
    [
        "mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = -1 ENODEV (No such device)",
        f"madvise({_RANGE}, MADV_REMOVE) = -1 EBADF (Bad file descriptor)",
        f"brk({_AT:#x}) = 0x55d000000000",
        'execve("/no", ["no"], 0x7ffe) = -1 ENOENT (No such file or directory)',
        "clone3({flags=CLONE_VM|CLONE_THREAD|CLONE_SETTLS, exit_signal=0} => {x=[9]}, 88) = 9",
        "exit_group(0)                           = ?",
        "+++ exited with 0 +++",
        "--- SIGCHLD {si_signo=SIGCHLD, si_pid=7} ---",
        "strace: Process 9 attached",
        "[pid  1] +++ exited with 0 +++",
        " > /lib/libc.so.6(madvise+0x1f) [0x114]",
        'write(1, ") = 0x1", 7) = 7',
        "restart_syscall(<... resuming interrupted read ...>) = 1",
        "",
    ],
)
def test_calls_without_effect_make_no_event(line: str) -> None:
    assert [event for _, events, _ in _read(_FIRST, line) for event in events][1:] == []


@pytest.mark.parametrize("begin", ["7 ", "[pid     7] ", "7     1795655288.5 "])
def test_an_interrupted_call_is_joined(begin: str) -> None:
    end = begin.replace("88.5", "89.5")
    ((pid, events, _),) = _read(
        f"{begin}munmap({_RANGE} <unfinished ...>",
        f"{end}<... munmap resumed>) = 0 <0.000012>",
        f"{end}madvise({_AT:#x},  <unfinished ...>",
        f"{end}<... madvise resumed>1048576, MADV_DONTNEED) = 0",
    )
    assert pid == 7
    assert [event[0] for event in events] == [Kind.UNMAP_BEGIN, Kind.UNMAP, Kind.DONTNEED]
    assert {event[1:3] for event in events} == {(_AT, 1 << 20)}


def test_an_unfinished_line_is_joined() -> None:
    """On stderr, messages of strace interrupt calls."""
    assert _events(
        f"madvise({_AT:#x}, 1048576, MADV_DONTNEEDstrace: Process 9 attached", ") = 0"
    ) == [(Kind.DONTNEED, _AT, 1 << 20, 4)]
    cut = f"madvise({_AT:#x}, strace: Process 9 attached"
    assert _events(cut, "1048576, MADV_DONTNEED) = 0") == [(Kind.DONTNEED, _AT, 1 << 20, 4)]


def test_threads_are_of_the_process_that_made_them() -> None:
    """Even if a thread appears before the call that made it has returned."""
    processes = _read(
        "5 clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0}, 88 <unfinished ...>",
        f"6 madvise({_RANGE}, MADV_DONTNEED) = 0",
        "5 <... clone3 resumed> => {parent_tid=[6]}, 88) = 6",
        "6 vfork() = 8",
        f"8 munmap({_RANGE}) = 0",
    )
    assert [pid for pid, _, _ in processes] == [5, 8]
    assert [event[0] for event in processes[0][1]] == [Kind.DONTNEED, Kind.FORK]


def test_lines_without_a_pid_are_of_the_first_process() -> None:
    processes = _read(
        f"madvise({_RANGE}, MADV_DONTNEED) = 0",
        "fork() = 9",
        f"[pid 9] munmap({_RANGE}) = 0",
        f"[pid 7] munmap({_RANGE}) = 0",
    )
    assert [(pid, len(events)) for pid, events, _ in processes] == [(7, 4), (9, 2)]
    alone = _read("set_tid_address(0x7f) = 4711", f"madvise({_RANGE}, MADV_DONTNEED) = 0")
    assert [pid for pid, _, _ in alone] == [4711]


def test_times_go_on_after_midnight_and_by_differences() -> None:
    purge = f"madvise({_RANGE}, MADV_DONTNEED) = 0"
    ((_, _, times),) = _read(f"23:59:59.5 {purge}", f"00:00:00.5 {purge}")
    assert times[1] - times[0] == 10**9
    ((_, _, times),) = _read(f"     0.000000 {purge}", f"     0.250000 {purge}")
    assert times[1] - times[0] == 250_000_000
    ((_, _, times),) = _read(purge, purge)
    assert times[1] > times[0]


@pytest.mark.parametrize(
    "line",
    [
        "madvise(0x7f, 4096) = 0",
        "madvise(0x7f, x, MADV_DONTNEED) = 0",
        "madvise(0x7f, 4096, MADV_WHATEVER) = 0",
        "madvise(0x7fffffffffffffffffff, 4096, 4) = 0",
        f"madvise({'9' * 30}, 4096, 4) = 0",
        "munmap(0x7f, 4096) = five",
        "munmap(0x7f, 4096)",
        "munmap(0x7f",
        "mremap(0x7f, 1, 2) = 0x7f",
        "process_madvise(3, [{iov_base=0x1000, iov_len=4096}, ...], 40, MADV_DONTNEED, 0) = 4096",
        "process_madvise(3, 0x7ffd, 1, MADV_DONTNEED, 0) = 4096",
        f"99999999 madvise({_RANGE}, MADV_DONTNEED) = 0",
        f"99999999999999.5 madvise({_RANGE}, MADV_DONTNEED) = 0",
        "mlock(0x7f, \u0664) = 0",
        "1234 garbage",
        "(" * 1000,
        "madvise(" + "0x7f|" * 5000,
    ],
)
def test_an_odd_line_is_only_counted(line: str) -> None:
    recording = read_recording([_FIRST, line])
    assert recording.strange == 1
    assert len(list(recording.records())) == 3


def test_a_text_without_calls_that_matter_is_refused() -> None:
    with pytest.raises(UsageError, match=r"read as strace\. Make it with: strace -f"):
        read_recording(['openat(AT_FDCWD, "/x", O_RDONLY) = 3'])
