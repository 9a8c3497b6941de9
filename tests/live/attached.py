# SPDX-License-Identifier: GPL-2.0-only
"""A process followed by a session, and an independent reading of it without probes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shadow.engine import Tee
from shadow.geometry import geometry_of_page
from shadow.precompile import prepare
from shadow.snapshot import Snapshot
from tracer.census import CountedReader, Reader, open_reader
from tracer.follow.open_tracing import open_stacks
from tracer.follow.session import Session
from tracer.kernel import KernelFacts, kernel_facts
from tracer.page_size import PAGE, PAGE_KIB
from tracer.probes.sources import Backend
from tracer.probes.stack_sampling import STACK_RING
from tracer.probes.stream import DEFAULT_RING, Probes
from tracer.process.target import open_target
from tracer.stacks.sampler import StackSampler

__all__ = ("Attacher", "Truth", "attached", "hardly_any_lost", "quiet_truth", "truth", "watching")

_NOT_NONE = np.uint64(3 << 62)  # present or swapped


@dataclass(frozen=True)
class Attacher:
    """Makes a seeded session of a process."""

    probes: Probes
    kernel: KernelFacts
    reader: Reader
    stacks: StackSampler | None = None

    def __call__(self, pid: int, tee: Tee | None = None) -> Session:
        """Make a session; `tee` receives its records."""
        self.probes.add(pid)
        session = Session(
            open_target(pid), self.probes, self.kernel, self.reader, tee, stacks=self.stacks
        )
        session.seed()
        return session


@contextmanager
def attached(
    pid: int,
    *,
    ring_bytes: int = DEFAULT_RING,
    exact: bool = True,
    tee: Tee | None = None,
) -> Iterator[Session]:
    """A seeded session of a running process; unless `exact`, page tables are counted."""
    with watching(ring_bytes=ring_bytes, exact=exact) as attach:
        yield attach(pid, tee)


@contextmanager
def watching(
    *,
    ring_bytes: int = DEFAULT_RING,
    exact: bool = True,
    backend: Backend | None = None,
    stack_rate: int | None = None,
    stack_ring_bytes: int = STACK_RING,
) -> Iterator[Attacher]:
    """Attached probes, and a function that makes a seeded session of a pid."""
    kernel = kernel_facts()
    prepare(kernel.geometry)
    probes = Probes(
        geometry=kernel.geometry,
        ring_bytes=ring_bytes,
        backend=backend,
        stack_ring_bytes=stack_ring_bytes if stack_rate else 0,
    )
    reader = open_reader(kernel.geometry) if exact else CountedReader(kernel.geometry, "as asked")
    assert reader.exact == exact, reader.why

    try:
        with open_stacks(probes, reader, stack_rate) as stacks:
            yield Attacher(probes, kernel, reader, stacks)
    finally:
        reader.close()
        probes.close()


def hardly_any_lost(report: Snapshot) -> bool:
    """Whether the ring lost no events but the few that its lock refuses (bpf/probes/stream.c)."""
    return report.window.lost <= sum(report.window.events.values()) / 100_000


@dataclass(frozen=True)
class Truth:
    """The page tables according to /proc, without probes (reference: anchors, 0.9)."""

    pte_pages: int
    empty: int
    entries: int


def truth(pid: int) -> Truth:
    """VmPTE less upper levels, and the slots with an entry in pagemap.

    This reads /proc entry by entry and, on purpose, shares no code with the shadow that it
    checks. It derives the upper levels from the entries, and expects no huge pages.
    """
    shape = geometry_of_page(PAGE)
    slots: set[int] = set()
    entries = 0
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if start >= 1 << 56:  # vsyscall
                continue
            pagemap.seek(start // PAGE * 8)
            raw = pagemap.read((end - start) // PAGE * 8)
            mapped = np.flatnonzero(np.frombuffer(raw, "<u8") & _NOT_NONE)
            entries += len(mapped)
            slots |= set(((start + mapped * PAGE) // shape.slot).tolist())
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmPTE"))
    pages = int(line.split()[1]) // PAGE_KIB
    for span in (shape.pmd_span, shape.pud_span)[: 1 + shape.has_puds]:
        pages -= len({slot * shape.slot // span for slot in slots})
    return Truth(pages, pages - len(slots), entries)


def quiet_truth(session: Session, seconds: float = 10.0) -> Truth:
    """The truth at a moment without events, with an up-to-date session.

    Raises:
        AssertionError: there was no such moment.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        while session.pump():
            pass
        found = truth(session.target.pid)
        time.sleep(0.01)
        if not session.pump():
            return found
    raise AssertionError("the process was never quiet")
