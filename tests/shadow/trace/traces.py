# SPDX-License-Identifier: GPL-2.0-only
"""Small traces with every kind of record."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from shadow.engine import Engine
from shadow.geometry import X86_64, Geometry
from shadow.policy import Policy
from shadow.records import Events, Facts, Mappings, Record, Repair, Seed
from shadow.snapshot import Allocator, Audit, Kernel, Process, document
from shadow.table.page_set import Pages
from shadow.table.state import HUGE_ANON, HugePages
from shadow.table.vma import VMA, VmaFlag
from shadow.trace import TraceFile, TraceReader
from tests.shadow.build import BASE, EventScript

__all__ = ("END_NS", "facts", "followed", "live_document", "records", "write_trace")

_RW = VmaFlag.READ | VmaFlag.WRITE
END_NS = 9_000_000


def facts(pid: int = 7, geometry: Geometry = X86_64) -> Facts:
    """The first facts of a process."""
    jemalloc = Allocator("jemalloc", "5.3.0", "shared: /usr/lib/libjemalloc.so.2", {"A": "1"})
    return Facts(
        process=Process(pid, "server", 12345, "/usr/bin/server", jemalloc),
        kernel=Kernel(
            "6.18.0",
            Policy.PT_RECLAIM.label,
            geometry.levels,
            geometry.page,
            "none",
            arch=geometry.arch,
            user_address_bits=geometry.user_address_bits,
        ),
        huge=HugePages(0, 16, 0),
        host="there",
        start_ns=500,
        wall_ns=1_700_000_000_000_000_000,
    )


def _pages(geometry: Geometry, entries: dict[int, int], **more: object) -> Pages:
    """PTE pages by slot number, each with this many entries."""
    bits = np.zeros((len(entries), geometry.entries), np.uint8)
    for row, count in enumerate(entries.values()):
        bits[row, :count] = 1
    pages = Pages(
        slots=BASE + geometry.slot * np.array(list(entries), np.int64),
        present=np.packbits(bits, axis=1, bitorder="little").view(np.uint64),
        huge=np.empty(0, np.int64),
        huge_kind=np.empty(0, np.uint8),
        exact=True,
    )
    return replace(pages, **more)  # type: ignore[arg-type]


def _vmas(geometry: Geometry) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    slot, page = geometry.slot, geometry.page
    rows = [
        (BASE, BASE + 40 * slot, _RW, 0, BASE // page, 0),
        (BASE + 64 * slot, BASE + 65 * slot, VmaFlag.READ, 3, 17, 0),
    ]
    return np.array(rows, VMA)


def records(pid: int = 7, geometry: Geometry = X86_64) -> list[Record]:
    """A history with each kind of record, in a possible order."""
    begin = facts(pid, geometry)
    slot, page = geometry.slot, geometry.page
    seeded = replace(begin, kernel=replace(begin.kernel, seed="census"), notes=("A note.",))
    huge = np.array([BASE + 12 * slot]), np.array([HUGE_ANON], np.uint8)
    last = BASE + 66 * slot
    pmds, puds = (
        np.arange(BASE & -span, last, span) if span < geometry.user_bytes else np.empty(0, np.int64)
        for span in (geometry.pmd_span, geometry.pud_span)
    )
    before = EventScript(page).touch(BASE, 3 * page).batch()
    history = EventScript(page).touch(BASE + 20 * slot, 4 * slot, slot // 8)
    for half in range(6):
        history.dontneed(BASE + 20 * slot + half * slot // 2, slot // 2)
    events = history.map(BASE + 66 * slot, slot).batch()
    events["time"] += 1_000_000
    later = EventScript(page).touch(BASE, 2 * slot, slot // 4).unmap(BASE + 30 * slot, slot).batch()
    later["time"] += 5_000_000
    for batch in before, events, later:
        batch["tgid"] = pid
    within = np.array([BASE + 22 * slot]), np.array([BASE + 24 * slot])
    audited = replace(
        seeded,
        audit=Audit(1, 1, 1, 0, 5, 1, 1, "census", {"unknown": 5}, {"unknown": 1}),
        vm_pte_kib=100,
        unplaced=2,
        told_ns=4_000_000,
    )
    found = _pages(
        geometry,
        {2: geometry.entries, 3: 0, 4: 7},
        huge=huge[0],
        huge_kind=huge[1],
        pmd_bases=pmds,
        pud_bases=puds,
    )
    return [
        begin,
        replace(seeded, told_ns=600),
        Seed(900_000, found, _vmas(geometry), BASE + 41 * slot),
        Events(before, counted=True),
        Events(events[:20]),
        Events(events[20:]),
        Repair(3_000_000, _pages(geometry, {22: 5, 23: 0}, within=within)),
        Mappings(3_500_000, pmds, puds),
        audited,
        Mappings(4_500_000, vmas=_vmas(geometry), brk=BASE),
        Events(later),
        replace(audited, end_ns=END_NS, told_ns=END_NS),
    ]


def write_trace(
    path: Path, *, pids: tuple[int, ...] = (7,), end: bool = True, geometry: Geometry = X86_64
) -> None:
    """A trace of these processes, with interleaved records."""
    file = TraceFile(path)
    for number, pid in enumerate(pids, 1):
        for record in records(pid, geometry):
            file.write(number, pid, record)
    if end:
        file.end()
    file.close()


def followed(pid: int = 7, stop: int | None = None, geometry: Geometry = X86_64) -> Engine:
    """The live engine of the process after all records, or after the first `stop`."""
    first, *others = records(pid, geometry)[:stop]
    assert isinstance(first, Facts)
    engine = Engine(first)
    for record in others:
        engine.apply(record)
    return engine


def live_document(*pids: int, geometry: Geometry = X86_64) -> dict[str, object]:
    """The report at the end."""
    engines = [followed(pid, geometry=geometry) for pid in pids]
    return document([engine.snapshot(END_NS, slots=True) for engine in engines])


def read_all(path: Path) -> list[tuple[int, Record]]:
    """The records of a trace."""
    with path.open("rb") as file, TraceReader(file, path.name) as reader:
        return [(entry.process, entry.record) for entry in reader]
