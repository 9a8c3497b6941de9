# SPDX-License-Identifier: GPL-2.0-only
"""Small traces with every kind of record."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from shadow.engine import Engine
from shadow.policy import Policy
from shadow.records import Events, Facts, Mappings, Record, Repair, Seed
from shadow.snapshot import Allocator, Audit, Kernel, Process, document
from shadow.table.page_set import Pages
from shadow.table.state import HUGE_ANON, VMA, HugePages, VmaFlag
from shadow.trace import TraceFile, TraceReader
from tests.shadow.build import BASE, PAGE, SLOT, EventScript

__all__ = ("END_NS", "facts", "followed", "live_document", "records", "write_trace")

_RW = VmaFlag.READ | VmaFlag.WRITE
_GIB, _PUD = 1 << 30, 1 << 39
END_NS = 9_000_000


def facts(pid: int = 7) -> Facts:
    """The first facts of a process."""
    jemalloc = Allocator("jemalloc", "5.3.0", "shared: /usr/lib/libjemalloc.so.2", {"A": "1"})
    return Facts(
        process=Process(pid, "server", 12345, "/usr/bin/server", jemalloc),
        kernel=Kernel("6.18.0", Policy.PT_RECLAIM.label, 4, PAGE, "none"),
        huge=HugePages(0, 16, 0),
        host="there",
        start_ns=500,
        wall_ns=1_700_000_000_000_000_000,
    )


def _pages(entries: dict[int, int], **more: object) -> Pages:
    """PTE pages by slot number, each with this many entries."""
    bits = np.zeros((len(entries), 512), np.uint8)
    for row, count in enumerate(entries.values()):
        bits[row, :count] = 1
    pages = Pages(
        slots=BASE + SLOT * np.array(list(entries), np.int64),
        present=np.packbits(bits, axis=1, bitorder="little").view(np.uint64),
        huge=np.empty(0, np.int64),
        huge_kind=np.empty(0, np.uint8),
        exact=True,
    )
    return replace(pages, **more)  # type: ignore[arg-type]


def _vmas() -> np.ndarray[tuple[int], np.dtype[np.void]]:
    rows = [
        (BASE, BASE + 40 * SLOT, _RW, 0, BASE // PAGE, 0),
        (BASE + 64 * SLOT, BASE + 65 * SLOT, VmaFlag.READ, 3, 17, 0),
    ]
    return np.array(rows, VMA)


def records(pid: int = 7) -> list[Record]:
    """A history with each kind of record, in a possible order."""
    begin = facts(pid)
    seeded = replace(begin, kernel=replace(begin.kernel, seed="census"), notes=("A note.",))
    huge = np.array([BASE + 12 * SLOT]), np.array([HUGE_ANON], np.uint8)
    upper = np.array([BASE & -_GIB]), np.array([BASE & -_PUD])
    before = EventScript().touch(BASE, 3 * PAGE).batch()
    history = EventScript().touch(BASE + 20 * SLOT, 4 * SLOT, SLOT // 8)
    for half in range(6):
        history.dontneed(BASE + 20 * SLOT + half * SLOT // 2, SLOT // 2)
    events = history.map(BASE + 66 * SLOT, SLOT).batch()
    events["time"] += 1_000_000
    later = EventScript().touch(BASE, 2 * SLOT, SLOT // 4).unmap(BASE + 30 * SLOT, SLOT).batch()
    later["time"] += 5_000_000
    for batch in before, events, later:
        batch["tgid"] = pid
    within = np.array([BASE + 22 * SLOT]), np.array([BASE + 24 * SLOT])
    audited = replace(
        seeded,
        audit=Audit(1, 1, 1, 0, 5, 1, 1, "census", {"unknown": 5}, {"unknown": 1}),
        vm_pte_kib=100,
        unplaced=2,
        told_ns=4_000_000,
    )
    found = _pages(
        {2: 512, 3: 0, 4: 7},
        huge=huge[0],
        huge_kind=huge[1],
        pmd_bases=upper[0],
        pud_bases=upper[1],
    )
    return [
        begin,
        replace(seeded, told_ns=600),
        Seed(900_000, found, _vmas(), BASE + 41 * SLOT),
        Events(before, counted=True),
        Events(events[:20]),
        Events(events[20:]),
        Repair(3_000_000, _pages({22: 5, 23: 0}, within=within)),
        Mappings(3_500_000, *upper),
        audited,
        Mappings(4_500_000, vmas=_vmas(), brk=BASE),
        Events(later),
        replace(audited, end_ns=END_NS, told_ns=END_NS),
    ]


def write_trace(path: Path, *, pids: tuple[int, ...] = (7,), end: bool = True) -> None:
    """A trace of these processes, with interleaved records."""
    file = TraceFile(path)
    for number, pid in enumerate(pids, 1):
        for record in records(pid):
            file.write(number, pid, record)
    if end:
        file.end()
    file.close()


def followed(pid: int = 7, stop: int | None = None) -> Engine:
    """The live engine of the process after all records, or after the first `stop`."""
    first, *others = records(pid)[:stop]
    assert isinstance(first, Facts)
    engine = Engine(first)
    for record in others:
        engine.apply(record)
    return engine


def live_document(*pids: int) -> dict[str, object]:
    """The report at the end."""
    return document([followed(pid).snapshot(END_NS, slots=True) for pid in pids])


def read_all(path: Path) -> list[tuple[int, Record]]:
    """The records of a trace."""
    with path.open("rb") as file, TraceReader(file, path.name) as reader:
        return [(entry.process, entry.record) for entry in reader]
