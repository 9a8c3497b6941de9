# SPDX-License-Identifier: GPL-2.0-only
"""Real output of each tool for the same program, recognised by content.

The program (all runs of it do the same at the same addresses): 16 MiB at `_AT` mapped, a
write each 256 KiB, eight MADV_DONTNEED of 1 MiB, one MADV_FREE, one process_madvise; a
thread that maps 4 MiB, purges and unmaps them; mlock and its like; a child that unmaps
8 MiB and calls execve; the last 2 MiB unmapped.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shadow.engine import Engine
from shadow.errors import UsageError
from shadow.events import Kind
from shadow.perf_import import Recording, read_recording
from shadow.policy import Policy
from shadow.records import Events, Facts
from shadow.snapshot import Snapshot

_GOLDEN = Path(__file__).with_name("golden")
_NAMES = {
    "perf-script": "perf script",
    "perf-trace": "perf trace",
    "strace": "strace",
    "strace-stderr": "strace",
    "ftrace": "ftrace",
    "trace-cmd": "ftrace",
}
_WITH_FAULTS = ("perf-script", "perf-trace", "ftrace", "trace-cmd")
_WITH_VECTORS = ("strace", "strace-stderr")
_WITHOUT_THREADS = ("perf-trace",)
_AT, _MIB, _PAGE = 0x1000_0000_0000, 1 << 20, 4096
_END = _AT + 16 * _MIB


def _recording(name: str) -> Recording:
    return read_recording((_GOLDEN / f"{name}.txt").read_text().splitlines(), Policy.PT_RECLAIM)


def _processes(recording: Recording) -> list[tuple[Facts, list[tuple[int, ...]]]]:
    """Facts and events (kind, address, length, aux) of each process."""
    found: list[tuple[Facts, list[tuple[int, ...]]]] = []
    for _, _, record in recording.records():
        if isinstance(record, Facts):
            found.append((record, []))
        elif isinstance(record, Events):
            found[-1][1].extend((r[5], r[1], r[2], r[7]) for r in record.batch.tolist())
    return found


def _snapshot(recording: Recording) -> Snapshot:
    """The first process before its first mlock, which fills the purged memory again."""
    (_, _, facts), *others = (r for r in recording.records() if r[0] == 1)
    assert isinstance(facts, Facts)
    engine = Engine(facts)
    for _, _, record in others:
        if isinstance(record, Events):
            until = np.flatnonzero(record.batch["kind"] == Kind.LOCK)
            record = replace(record, batch=record.batch[: until[0] if len(until) else None])
        engine.apply(record)
    return engine.snapshot(facts.end_ns or 0, slots=True)


@pytest.mark.parametrize("name", _NAMES)
def test_the_format_is_recognised_by_content(name: str) -> None:
    recording = _recording(name)
    assert recording.strange == 0
    assert recording.lines > 60
    facts, _ = _processes(recording)[0]
    assert facts.notes[0].startswith(f"Imported from {_NAMES[name]}: ")


@pytest.mark.parametrize("name", _NAMES)
def test_all_formats_give_the_same_calls(name: str) -> None:
    """The events in the area at the address common to all runs, and those without an address."""
    _, events = _processes(_recording(name))[0]
    calls = [e for e in events if _AT <= e[1] < _END and e[0] != Kind.FAULT]
    wanted = [
        (Kind.MAP, _AT, 16 * _MIB),
        (Kind.ADVISE, _AT, 16 * _MIB),
        *((Kind.DONTNEED, _AT + i * _MIB, _MIB) for i in range(8)),
        (Kind.FREE, _AT + 8 * _MIB, _MIB),
        *([(Kind.DONTNEED, _AT + 12 * _MIB, _MIB)] if name in _WITH_VECTORS else []),
        (Kind.UNMAP_BEGIN, _AT + 14 * _MIB, 2 * _MIB),
        (Kind.UNMAP, _AT + 14 * _MIB, 2 * _MIB),
    ]
    assert [call[:3] for call in calls] == wanted
    lengths = [e[2] for e in events if e[0] == Kind.MAP and e[3] >> 8 & 0x8000]
    assert lengths == [2 * _MIB], "MAP_POPULATE"
    (old,) = [e for e in events if e[0] == Kind.REMAP_FROM]
    (new,) = [e for e in events if e[0] == Kind.REMAP_TO]
    assert (old[2], old[3], new[2]) == (_MIB, 1, 4 * _MIB)
    assert new[1] not in (0, old[1])
    locks = [(e[0], e[2], e[3]) for e in events if e[0] in (Kind.LOCK, Kind.UNLOCK)]
    assert locks == [
        (Kind.LOCK, 2 * _PAGE, 0), (Kind.LOCK, _PAGE, 1), (Kind.UNLOCK, 2 * _PAGE, 0),
        (Kind.LOCK, 0, 1), (Kind.UNLOCK, 0, 0),
    ]  # fmt: skip
    refused = [e for e in events if e[0] == Kind.DONTNEED and e[1] == _END]
    assert len(refused) == 1, "ENOMEM: what is mapped of it is zapped"


@pytest.mark.parametrize("name", _NAMES)
def test_threads_belong_to_their_process_where_the_format_has_it(name: str) -> None:
    processes = _processes(_recording(name))
    assert len(processes) == (3 if name in _WITHOUT_THREADS else 2)
    in_thread = [e for e in processes[0][1] if e[0] == Kind.DONTNEED and e[2] == 4 * _MIB]
    assert len(in_thread) == (name not in _WITHOUT_THREADS)
    child = processes[-1][1]
    assert [e[0] for e in child].count(Kind.EXEC) == 1
    assert (Kind.UNMAP, _AT, 8 * _MIB, 0) in child
    forks = [e for e in processes[0][1] if e[0] == Kind.FORK]
    assert [e[1] for e in forks] == [processes[-1][0].process.pid]


@pytest.mark.parametrize("name", _NAMES)
def test_a_report_says_what_the_text_leaves_out(name: str) -> None:
    snapshot = _snapshot(_recording(name))
    notes = " ".join(snapshot.notes)
    assert "earlier page tables and VMAs are unknown" in notes
    assert ("strace has no page faults" in notes) == name.startswith("strace")
    assert "calls of MADV_DONTNEED covered a whole slot of 2 MiB" in notes
    assert ("calls of process_madvise are omitted" in notes) == (name not in _WITH_VECTORS)
    assert snapshot.kernel.seed == "none"
    assert snapshot.empty_slots is not None
    area = [slot for slot in snapshot.empty_slots if _AT <= slot < _END]
    if name in _WITH_FAULTS:
        assert area == [_AT + 2 * i * _MIB for i in range(4)], "purged in halves"
    else:
        assert area == []


def test_names_and_host_are_those_of_the_text() -> None:
    facts, _ = _processes(_recording("perf-script"))[0]
    assert (facts.process.comm, facts.host) == ("prog", "there")
    assert facts.kernel.release.startswith("6.")
    assert facts.wall_ns > 0
    facts, _ = _processes(_recording("strace"))[0]
    assert facts.process.comm == f"pid {facts.process.pid}"


def test_another_text_is_refused_with_a_list_of_formats() -> None:
    with pytest.raises(UsageError, match=r"strace -f -ttt -T.*|perf trace"):
        read_recording(["something else", "altogether = 3", ""])
    with pytest.raises(UsageError):
        read_recording([])
