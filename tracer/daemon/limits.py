# SPDX-License-Identifier: GPL-2.0-only
"""What the daemon may use, and what it does not follow for that."""

import resource
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ("CpuBudget", "Limits", "memory_bytes", "shadow_cost")

_BYTES_PER_PAGE = 1100
"""What following takes for each PTE page while it is seeded; 1.1 GiB for a million."""
_FIXED_BYTES = 128 << 10
_PAGE_SIZE = resource.getpagesize()


@dataclass(frozen=True)
class Limits:
    """Bounds.

    Attributes:
        memory_bytes: resident memory of the whole process.
        cpu: share of one CPU, 1 is all of it.
    """

    memory_bytes: int = 512 << 20
    cpu: float = 0.25


def memory_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_SIZE


def shadow_cost(vm_pte_kib: int) -> int:
    """Bytes that seeding and following a process with this VmPTE may take."""
    return _FIXED_BYTES + vm_pte_kib // 4 * _BYTES_PER_PAGE


class CpuBudget:
    """Whether this process uses more CPU than it may, window by window.

    Args:
        share: of one CPU.
    """

    window = 5.0
    """Seconds over which use is looked at."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._since, self._used = time.monotonic(), time.process_time()
        self.use = 0.0
        """Share used in the last window."""

    def over(self) -> bool | None:
        """At the end of a window: whether too much was used in it; None: it goes on."""
        now, used = time.monotonic(), time.process_time()
        if now - self._since < self.window:
            return None
        self.use = (used - self._used) / (now - self._since)
        self._since, self._used = now, used
        return self.use > self._share
