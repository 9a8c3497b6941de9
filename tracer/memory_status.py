# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel states of a process's memory: VmPTE, VmRSS and VmSwap of /proc/PID/status.

Linux kernel commit af5b0f6a09e4 "mm: consolidate page table accounting" (in v4.15) made
VmPTE count all levels but the PGD.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from tracer.living import read_living

__all__ = ("MemoryStatus", "memory_status")

_FIELD = re.compile(rb"^(VmPTE|VmRSS|VmSwap):\s+(\d+) kB", re.MULTILINE)
_KIB_PER_PAGE = 4


@dataclass(frozen=True)
class MemoryStatus:
    """Sizes that the kernel states.

    Attributes:
        vm_pte_kib: its PTE, PMD and PUD pages, deposits included, in KiB.
        mapped: pages that are resident or swapped out.
    """

    vm_pte_kib: int
    mapped: int


def _parse(task: Path) -> MemoryStatus:
    with open(task / "status", "rb", buffering=0) as file:
        text = file.read(1 << 16)
    found = {name: int(kib) for name, kib in _FIELD.findall(text)}
    if b"VmPTE" not in found:
        raise ProcessLookupError(f"{task} has no address space")
    mapped = (found.get(b"VmRSS", 0) + found.get(b"VmSwap", 0)) // _KIB_PER_PAGE
    return MemoryStatus(found[b"VmPTE"], mapped)


def memory_status(pid: int | str) -> MemoryStatus:
    """The sizes of a process, now.

    Raises:
        ProcessLookupError: the process has no address space (any more).
        OSError: /proc cannot be read.
    """
    try:
        return _parse(Path(f"/proc/{pid}"))
    except ProcessLookupError:  # its main thread may have ended before others
        return read_living(int(pid), _parse)
