# SPDX-License-Identifier: GPL-2.0-only
"""Lines of perf script become the events that the probes would have made."""

import mmap

import pytest

from shadow.engine import Engine
from shadow.errors import UsageError
from shadow.events import MAP_FLAGS_SHIFT, PARTLY, Kind
from shadow.perf_import import PerfScript
from shadow.policy import Policy
from shadow.records import Events, Facts, Mappings
from shadow.table.counters import Counter

_HEADER = """# ========
# captured on    : Mon Nov 23 11:24:25 2026
# hostname : there
# os release : 6.1.0-27-amd64
"""


def _call(time: float, call: str, arguments: str, result: str, tid: int = 7) -> str:
    """A line as perf 6.1 prints it, for a thread with a space in its name."""
    return (
        f"  my server     7/{tid} [001] {time:.9f}:   syscalls:sys_enter_{call}: {arguments}\n"
        f"  my server     7/{tid} [001] {time + 1e-6:.9f}:   syscalls:sys_exit_{call}: {result}\n"
    )


def _fault(time: float, address: int, side: str = "user") -> str:
    return (
        f"  my server     7/7     [000] {time:.9f}:         exceptions:page_fault_{side}: "
        f"address={address:#x} ip=0x7fefc0995b70 error_code=0x6\n"
    )


def _events(text: str) -> list[tuple[int, int, int, int]]:
    """Kind, address, length, aux."""
    script = PerfScript((_HEADER + _fault(0.5, 4096) + text).splitlines())
    assert script.strange == 0
    batches = [record.batch for _, _, record in script.records() if isinstance(record, Events)]
    rows = [row for batch in batches for row in batch.tolist()]
    return [(row[5], row[1], row[2], row[7]) for row in rows][1:]


_RANGE = "start: 0x7f3b97a00000, len_in: 0x00100000, behavior: "
_AT = 0x7F3B97A00000


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (_call(1, "madvise", _RANGE + "0x00000004", "0x0"), (Kind.DONTNEED, _AT, 1 << 20, 4)),
        (
            _call(1, "madvise", _RANGE + "0x00000004", "0xfffffffffffffff4"),
            (Kind.DONTNEED, _AT, 1 << 20, 4),
        ),
        (_call(1, "madvise", _RANGE + "0x00000008", "0x0"), (Kind.FREE, _AT, 1 << 20, 8)),
        (_call(1, "madvise", _RANGE + "0x0000000f", "0x0"), (Kind.ADVISE, _AT, 1 << 20, 15)),
        (_call(1, "madvise", _RANGE + "0x00000009", "0x0"), (Kind.TRUNCATE, _AT, 1 << 20, 9)),
        (
            _call(1, "madvise", _RANGE + "0x00000017", "0xfffffffffffffff2"),
            (Kind.POPULATE, _AT, 1 << 20, 23),
        ),
        (
            _call(
                1,
                "mmap",
                "addr: 0x00000000, len: 0x00400001, prot: 0x00000003, flags: 0x00000022, "
                "fd: 0xffffffff, off: 0x00000000",
                "0x7f3b97a00000",
            ),
            (Kind.MAP, _AT, 0x401000, mmap.PROT_READ | mmap.PROT_WRITE | 0x22 << MAP_FLAGS_SHIFT),
        ),
        (
            _call(
                1,
                "mprotect",
                "start: 0x7f3b97a00000, len: 0x00004000, prot: 0x00000001",
                "0xfffffffffffffff4",
            ),
            (Kind.PROTECT, _AT, 0x4000, 1 | PARTLY),
        ),
        (_call(1, "brk", "brk: 0x00000000", "0x56012c6b3000"), (Kind.BRK, 0x56012C6B3000, 0, 0)),
        (_fault(1, 0x7F0000001234), (Kind.FAULT, 0x7F0000001234, 0, 6)),
        (_fault(1, 0x7F0000001234, "kernel"), (Kind.FAULT, 0x7F0000001234, 0, 6 | 1 << 31)),
        (
            "  my server  7/7  [000]  9.000000001: PERF_RECORD_LOST lost 12",
            (Kind.LOSS, 0, 12, 0),
        ),
    ],
)
def test_a_line_or_two_make_an_event(line: str, event: tuple[int, ...]) -> None:
    assert _events(line) == [event]


def test_munmap_and_mremap_give_an_event_at_entry_and_at_return() -> None:
    unmap = _call(1, "munmap", "addr: 0x7f3b97a00000, len: 0x00001001", "0x0")
    assert _events(unmap) == [(Kind.UNMAP_BEGIN, _AT, 0x2000, 0), (Kind.UNMAP, _AT, 0x2000, 0)]
    arguments = (
        "addr: 0x7f3b97a00000, old_len: 0x00001000, new_len: 0x00002000, flags: 0x00000001, "
        "new_addr: 0x00000000"
    )
    failed = _call(2, "mremap", arguments, "0xfffffffffffffff2")
    assert _events(failed) == [(Kind.REMAP_FROM, _AT, 0x1000, 1), (Kind.REMAP_TO, _AT, 0, 0)]


@pytest.mark.parametrize(
    "line",
    [
        _call(1, "madvise", _RANGE + "0x00000009", "0xffffffffffffffea"),
        _call(1, "mmap", "addr: 0x0, len: 0x1000, prot: 0x3, flags: 0x22", "0xfffffffffffffff4"),
        _call(1, "brk", "brk: 0x56012c6b3000", "0x56012c6b0000"),
        "  my server     7/7 [001] 1.000000000:   syscalls:sys_exit_munmap: 0x0",
    ],
)
def test_calls_that_failed_or_began_earlier_make_no_event(line: str) -> None:
    assert _events(line) == []


def test_calls_of_threads_do_not_mix() -> None:
    enter, leave = _call(1, "madvise", _RANGE + "0x00000004", "0x0", tid=8).splitlines()
    other = _call(1.5, "munmap", "addr: 0x7f3b97a00000, len: 0x00001000", "0x0", tid=9)
    kinds = [event[0] for event in _events(f"{enter}\n{other}{leave}")]
    assert kinds == [Kind.UNMAP_BEGIN, Kind.UNMAP, Kind.DONTNEED]


def test_earlier_mappings_are_inferred_from_touched_addresses() -> None:
    mapped = _call(
        2, "mmap", "addr: 0x0, len: 0x2000, prot: 0x3, flags: 0x22, fd: 0, off: 0", "0x7000002000"
    )
    text = _fault(1, 0x7000000123) + _fault(1.1, 0x7000001000) + mapped
    text += _fault(3, 0x7000002000) + _fault(4, 0x7000003FFF) + _fault(5, 0x7000009000)
    script = PerfScript((_HEADER + text).splitlines())
    (facts, mappings, events) = (record for _, _, record in script.records())
    assert isinstance(facts, Facts)
    assert isinstance(mappings, Mappings)
    assert mappings.vmas is not None
    ranges = list(zip(mappings.vmas["start"].tolist(), mappings.vmas["end"].tolist(), strict=True))
    assert ranges == [(0x7000000000, 0x7000002000), (0x7000009000, 0x700000A000)]
    engine = Engine(facts)
    engine.apply(mappings)
    engine.apply(events)
    assert engine.table.counter(Counter.REFS) == 5
    assert engine.table.counter(Counter.NO_EFFECT) == 0


def test_the_header_gives_the_host_and_its_kernel() -> None:
    script = PerfScript((_HEADER + _fault(1, 4096)).splitlines())
    _, pid, facts = next(script.records())
    assert isinstance(facts, Facts)
    assert (pid, facts.host, facts.kernel.release) == (7, "there", "6.1.0-27-amd64")
    assert facts.process.comm == "my server"
    assert facts.kernel.policy == Policy.NONE.label
    assert facts.kernel.seed == "none"
    newer = _HEADER.replace("6.1.0", "6.14.2")
    _, _, facts = next(PerfScript((newer + _fault(1, 4096)).splitlines()).records())
    assert isinstance(facts, Facts)
    assert facts.kernel.policy == Policy.PT_RECLAIM.label


def test_an_execve_begins_a_new_address_space() -> None:
    exec_line = (
        "  other     7/7 [001] 2.000000000: sched:sched_process_exec: filename=/bin/x pid=7 "
        "old_pid=7\n"
    )
    after = _fault(3, 0x9000000000).replace("my server", "other")
    text = _fault(1, 0x7000000000) + exec_line + after
    records = [record for _, _, record in PerfScript((_HEADER + text).splitlines()).records()]
    first, *others = records
    assert isinstance(first, Facts)
    assert first.process.comm == "other"
    engine = Engine(first)
    for record in others:
        engine.apply(record)
    assert engine.table.counter(Counter.REFS) == 1


def test_lines_that_are_not_understood_are_counted_and_reported() -> None:
    text = _fault(1, 4096) + "  server 7 [001] 1.5: exceptions:page_fault_user: no process\n"
    script = PerfScript((_HEADER + text).splitlines())
    assert script.strange == 1
    _, _, facts = next(script.records())
    assert isinstance(facts, Facts)
    assert any(note == "1 lines of perf script could not be parsed." for note in facts.notes)


def test_a_text_without_events_is_refused() -> None:
    with pytest.raises(UsageError, match="perf script --ns"):
        PerfScript(["something else altogether"])
