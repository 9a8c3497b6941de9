# SPDX-License-Identifier: GPL-2.0-only
"""The memory and CPU that the daemon may use, and what it uses."""

import resource
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ("CpuBudget", "Limits", "memory_bytes", "shadow_cost")

_BYTES_PER_KIB = 275
"""Bytes for seeding and following by KiB of PTE pages: 1.1 GiB for a million pages of 4 KiB. Larger
ones have as many more entries."""
_FIXED_BYTES = 128 << 10
_PAGE_SIZE = resource.getpagesize()


@dataclass(frozen=True)
class Limits:
    """The limits of the daemon.

    Attributes:
        memory_bytes: resident memory of the daemon.
        cpu: share of one CPU; 1 is a whole CPU.
    """

    memory_bytes: int = 512 << 20
    cpu: float = 0.25


def memory_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_SIZE


def shadow_cost(vm_pte_kib: int) -> int:
    """Estimate the bytes for seeding and following a process with this VmPTE."""
    return _FIXED_BYTES + vm_pte_kib * _BYTES_PER_KIB


class CpuBudget:
    """Checks, window by window, whether the daemon exceeds its share of CPU.

    Args:
        share: permitted share of one CPU.
    """

    window = 5.0
    """Length of a window, seconds."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._since, self._used = time.monotonic(), time.process_time()
        self.use = 0.0
        """Share of one CPU in the last window."""

    def over(self) -> bool | None:
        """At the end of a window, whether it exceeded the share; None: the window goes on."""
        now, used = time.monotonic(), time.process_time()
        if now - self._since < self.window:
            return None
        self.use = (used - self._used) / (now - self._since)
        self._since, self._used = now, used
        return self.use > self._share
