# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's percpu_ref, as far as pte_ref uses it.

In percpu mode, a get or a put changes the part of one CPU only, so the sum is unknown:
nobody can read the value or see zero, and a tryget always succeeds. In atomic mode, the
count is a plain counter (include/linux/percpu-refcount.h, lib/percpu-refcount.c).
"""

from enum import Enum

from shadow.pte_ref.errors import KernelBugError

__all__ = ("Mode", "PercpuRef")


class Mode(Enum):
    """How the count is kept."""

    PERCPU = "percpu"
    ATOMIC = "atomic"


class PercpuRef:
    """A reference count.

    Attributes:
        mode: how the count is kept.
        grace_periods: RCU grace periods that switches have waited for.
    """

    def __init__(self) -> None:
        self.mode = Mode.PERCPU
        self.grace_periods = 0
        self._count = 0

    def get(self) -> None:
        """percpu_ref_get."""
        self._count += 1

    def put(self) -> None:
        """percpu_ref_put. The release callback of pte_ref does nothing, so 0 frees nothing.

        Raises:
            KernelBugError: there are more puts than gets, and the mode shows it.
        """
        self._count -= 1
        if self.mode is Mode.ATOMIC and self._count < 0:
            raise KernelBugError("pte_ref underflow")

    def tryget(self) -> bool:
        """percpu_ref_tryget: fails only if zero is visible, in atomic mode."""
        if self.is_zero():
            return False
        self._count += 1
        return True

    def is_zero(self) -> bool:
        """percpu_ref_is_zero: False in percpu mode, whatever the true count is."""
        return self.mode is Mode.ATOMIC and self._count == 0

    def switch_to_atomic_sync(self) -> None:
        """Wait for a grace period until all CPUs use one counter; return at once if they do."""
        if self.mode is Mode.PERCPU:
            self.mode = Mode.ATOMIC
            self.grace_periods += 1

    def switch_to_percpu(self) -> None:
        """Return to one part for each CPU, without waiting."""
        self.mode = Mode.PERCPU

    def true_count(self) -> int:
        """The sum, which kernel code cannot read in percpu mode; only for checks of the model."""
        return self._count
