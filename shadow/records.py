# SPDX-License-Identifier: GPL-2.0-only
"""What may happen to the shadow of one process, as plain data.

A process that is followed is a sequence of these records: `Facts` first, then
in the order of their effect. `shadow.engine` applies them, live as they come
about and later from a trace (`shadow.trace`), and nothing else changes a
shadow. So both come to the same end.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shadow.events import EventBatch
from shadow.mapping_names import MappingNames
from shadow.snapshot import Audit, Kernel, Process
from shadow.table import HugePages, Pages

__all__ = ("Events", "Facts", "Mappings", "Record", "Repair", "Seed")


@dataclass(frozen=True)
class Facts:
    """What is known besides the page tables; each takes the place of the one before.

    Attributes:
        process: who is followed.
        kernel: the kernel under it, and how the shadow was seeded.
        huge: where its anonymous faults map more than a page; the first word on it counts.
        max_map_count: vm.max_map_count, the most mappings of a process; None: not known.
        host: name of the host.
        start_ns: begin of the window, CLOCK_MONOTONIC.
        wall_ns: the same moment since the epoch.
        end_ns: end of the window; None: it goes on.
        ended: the process has ended.
        vm_pte_kib: VmPTE when it was last looked at.
        unplaced: empty PTE pages that are counted without their addresses.
        audit: what comparisons with the real page tables have given so far.
        notes: sentences on how far the numbers can be trusted.
        redacted: paths and settings were left out, and addresses are not its own.
        told_ns: when this became known.
        threads: names of its threads by tid, also of those that have ended.
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
    """What the probes told.

    Attributes:
        batch: (n,) of `EVENT`.
        counted: the seed that came before has their effect already; they are counted only.
    """

    batch: EventBatch
    counted: bool = False


@dataclass(frozen=True)
class Seed:
    """The real page tables and VMAs, read as a whole: the shadow starts from them.

    Attributes:
        time: when the reading began, ns.
        pages: the page tables.
        vmas: (n,) of `VMA`.
        brk: the program break, bytes; 0: not known.
        names: of the VMAs; None: they were not read, as in traces of before.
    """

    time: int
    pages: Pages
    vmas: npt.NDArray[np.void]
    brk: int
    names: MappingNames | None = None


@dataclass(frozen=True)
class Repair:
    """Page tables where an audit found the shadow wrong.

    Attributes:
        time: when it was repaired, ns.
        pages: the truth, and where it lies (`Pages.within`).
    """

    time: int
    pages: Pages


@dataclass(frozen=True)
class Mappings:
    """Upper levels and VMAs, read while no mapping changed, or after a loss.

    Without either it says only that the process was observed up to `time`.

    Attributes:
        time: when they were read, ns.
        pmd_bases: (k,) int64, ascending: first addresses of what PMD pages map.
        pud_bases: (l,) the same of PUD pages; both None where they were not read.
        vmas: (n,) of `VMA`; None: those known were right.
        brk: the program break, bytes.
        names: of all VMAs that the shadow has; None: those known stay.
    """

    time: int
    pmd_bases: npt.NDArray[np.int64] | None = None
    pud_bases: npt.NDArray[np.int64] | None = None
    vmas: npt.NDArray[np.void] | None = None
    brk: int = 0
    names: MappingNames | None = None


Record = Facts | Events | Seed | Repair | Mappings
