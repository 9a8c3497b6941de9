# SPDX-License-Identifier: GPL-2.0-only
"""The records that change the shadow of one process, as plain data.

A followed process is a sequence of these records: `Facts` first, the others in the order of
their effect. `shadow.engine` applies them, either live or from a trace (`shadow.trace`).
Nothing else changes a shadow, so both give the same result.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shadow.events import EventBatch
from shadow.mapping_names import MappingNames
from shadow.snapshot import Audit, Kernel, Process
from shadow.stacks import Frame, Stack, StackTotals
from shadow.table.page_set import Pages
from shadow.table.state import HugePages

__all__ = ("Events", "Facts", "Mappings", "Record", "Repair", "Seed", "Stacks")


@dataclass(frozen=True)
class Facts:
    """Everything about a process except its page tables. New facts replace the previous ones.

    Attributes:
        process: the followed process.
        kernel: its kernel, and how the shadow was seeded.
        huge: where an anonymous fault maps more than one page; only the first facts count.
        max_map_count: vm.max_map_count, the limit on mappings of a process; None: unknown.
        host: the name of the host.
        start_ns: the start of the window, CLOCK_MONOTONIC.
        wall_ns: the start of the window, since the epoch.
        end_ns: the end of the window; None: the window is open.
        ended: whether the process has ended.
        vm_pte_kib: VmPTE at its last reading.
        unplaced: the number of empty PTE pages with unknown addresses.
        audit: the results of all comparisons with the real page tables so far.
        notes: sentences on the limits of the numbers.
        redacted: whether paths and settings were removed and addresses changed.
        told_ns: when these facts became known.
        threads: names of the threads by tid, including threads that have ended.
    """

    process: Process
    kernel: Kernel
    huge: HugePages
    max_map_count: int | None = None
    host: str = ""
    start_ns: int = 0
    wall_ns: int = 0
    end_ns: int | None = None
    ended: bool = False
    vm_pte_kib: int | None = None
    unplaced: int = 0
    audit: Audit = field(default_factory=Audit)
    notes: tuple[str, ...] = ()
    redacted: bool = False
    told_ns: int = 0
    threads: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Events:
    """Events from the probes.

    Attributes:
        batch: (n,) of `EVENT`.
        counted: whether to count the events only, because the seed already has their effect.
    """

    batch: EventBatch
    counted: bool = False


@dataclass(frozen=True)
class Seed:
    """A complete reading of the page tables and VMAs, from which the shadow starts.

    Attributes:
        time: the start of the reading, ns.
        pages: the page tables.
        vmas: (n,) of `VMA`.
        brk: the program break, bytes; 0: unknown.
        names: the names of the VMAs; None: not read, as in older traces.
    """

    time: int
    pages: Pages
    vmas: npt.NDArray[np.void]
    brk: int
    names: MappingNames | None = None


@dataclass(frozen=True)
class Repair:
    """The real page tables at the places where an audit found the shadow wrong.

    Attributes:
        time: the time of the repair, ns.
        pages: the page tables as read, and the ranges that they cover (`Pages.within`).
    """

    time: int
    pages: Pages


@dataclass(frozen=True)
class Mappings:
    """The upper levels and VMAs, read while no mapping changed, or after a loss.

    Without either, the record says only that ptescope followed the process up to `time`.

    Attributes:
        time: the time of the reading, ns.
        pmd_bases: (k,) int64, ascending: the first address that each PMD page maps.
        pud_bases: (l,) the same for PUD pages; both are None if they were not read.
        vmas: (n,) of `VMA`; None: the shadow has the right VMAs.
        brk: the program break, bytes.
        names: the names of all VMAs of the shadow; None: unchanged.
    """

    time: int
    pmd_bases: npt.NDArray[np.int64] | None = None
    pud_bases: npt.NDArray[np.int64] | None = None
    vmas: npt.NDArray[np.void] | None = None
    brk: int = 0
    names: MappingNames | None = None


@dataclass(frozen=True)
class Stacks:
    """Stacks of user code at events, before or after this record.

    Frames and stacks are numbered in the order of their arrival. A record that begins at 0 again
    states all of them once more, after a gap in a trace.

    Attributes:
        time: the time of the record, ns.
        first_frame: the number of the first of the new frames.
        first_stack: the number of the first of the new stacks.
        frames: new distinct frames.
        stacks: new distinct stacks.
        samples: (n,) of `STACK_SAMPLE`.
        totals: what happened to the stacks up to now.
    """

    time: int
    first_frame: int
    first_stack: int
    frames: list[Frame]
    stacks: list[Stack]
    samples: npt.NDArray[np.void]
    totals: StackTotals


Record = Facts | Events | Seed | Repair | Mappings | Stacks
