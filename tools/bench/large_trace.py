# SPDX-License-Identifier: GPL-2.0-only
"""A synthetic trace of a process with many PTE pages, for benchmarks and tests of the page.

The process fills its memory in order, and then touches it at random from eight threads while it
purges halves of slots, so that the PTE pages of all slots change between any two moments. That is
the worst case for a page, which stores what changes.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from shadow.events import EVENT, EventBatch, Kind
from shadow.geometry import X86_64
from shadow.mapping_names import MappingNames
from shadow.policy import Policy
from shadow.records import Events, Facts, Seed
from shadow.snapshot import Allocator, Kernel, Process
from shadow.table.page_set import Pages
from shadow.table.state import HugePages
from shadow.table.vma import VMA, VmaFlag
from shadow.trace import TraceFile

__all__ = ("write_large_trace",)

PAGE, SLOT, ENTRIES = X86_64.page, X86_64.slot, X86_64.entries
_BASE = 0x7E00_0000_0000
_APART = 64 << 30
"""Bytes from one mapping to the next, which leaves a gap."""
_PID, _THREADS, _MAPPINGS = 4242, 8, 4
_START_NS, _SECONDS = 1_000_000_000, 120
_BATCH = 1 << 16
_PURGES = 0.12
_WRITE_FAULT, _DONTNEED = 6, 4
_NONE = np.empty(0, np.int64)


def _slot_addresses(slots: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The first address of each slot: in a few mappings with gaps between them."""
    each = -(-slots // _MAPPINGS)
    number = np.arange(slots)
    return _BASE + number // each * _APART + number % each * SLOT


def _events(slots: int, count: int) -> EventBatch:
    rng, fill = np.random.default_rng(1), count // 4
    which = rng.integers(0, slots, count)
    which[:fill] = np.arange(fill) * slots // fill
    events = np.zeros(count, EVENT)
    events["time"] = _START_NS + np.linspace(1e8, _SECONDS * 1e9, count).astype(np.uint64)
    events["address"] = _slot_addresses(slots)[which] + rng.integers(0, ENTRIES, count) * PAGE
    events["kind"], events["aux"] = Kind.FAULT, _WRITE_FAULT
    events["tgid"], events["tid"] = _PID, _PID + rng.integers(0, _THREADS, count)
    purge = (rng.random(count) < _PURGES) & (np.arange(count) >= fill)
    half = SLOT // 2
    events["kind"][purge], events["aux"][purge] = Kind.DONTNEED, _DONTNEED
    events["address"][purge] &= ~np.uint64(half - 1)
    events["length"][purge] = half
    return events


def write_large_trace(path: Path, slots: int = 100_000, count: int = 4_000_000) -> None:
    """Write the trace.

    Args:
        path: the file, which is replaced.
        slots: the number of slots that get a PTE page.
        count: the number of events.
    """
    addresses = _slot_addresses(slots)
    firsts = addresses[np.diff(addresses, prepend=-_APART) > SLOT]
    lasts = addresses[np.diff(addresses, append=1 << 56) > SLOT]
    access = VmaFlag.READ | VmaFlag.WRITE
    rows = [
        (first, last + SLOT, access, 0, first // PAGE, 0)
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)
    ]
    facts = Facts(
        process=Process(_PID, "large", 1, "/usr/bin/large", Allocator("jemalloc", "5.3.0")),
        kernel=Kernel("6.18.0", Policy.PT_RECLAIM.label, 4, PAGE, "census"),
        huge=HugePages(),
        host="made",
        start_ns=_START_NS,
        wall_ns=1_700_000_000_000_000_000,
        threads={_PID + number: f"worker-{number}" for number in range(_THREADS)},
    )
    pages = Pages(
        slots=_NONE,
        present=np.empty((0, ENTRIES // 64), np.uint64),
        huge=_NONE,
        huge_kind=np.empty(0, np.uint8),
        exact=True,
        pmd_bases=_NONE,
        pud_bases=_NONE,
    )
    events, end_ns = _events(slots, count), _START_NS + _SECONDS * 1_000_000_000 + 1
    file = TraceFile(path, force=True)
    file.write(1, _PID, facts)
    file.write(1, _PID, Seed(_START_NS + 1, pages, np.array(rows, VMA), 0, MappingNames()))
    for at in range(0, count, _BATCH):
        file.write(1, _PID, Events(events[at : at + _BATCH]))
    file.write(1, _PID, replace(facts, end_ns=end_ns, told_ns=end_ns))
    file.end(0)
    file.close()
