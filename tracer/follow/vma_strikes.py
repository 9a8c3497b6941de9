# SPDX-License-Identifier: GPL-2.0-only
"""Track which VMAs differ in the readings of an audit.

A thread can be preempted between the change of a mapping and the event of its call, for longer
than any margin on a busy host. So a VMA counts as different only after several consecutive
readings in which it differs, like a slot (`tracer.follow.coverage`).
"""

from collections.abc import Set

from shadow.table.vma_readings import DescribedVma
from tracer.follow.coverage import READINGS

__all__ = ("VmaStrikes",)


class VmaStrikes:
    """The VMAs of one audit that differ."""

    def __init__(self) -> None:
        self._strikes: dict[DescribedVma, int] = {}
        """Number of consecutive readings in which each has differed."""

    def add(self, wrong: Set[DescribedVma]) -> None:
        """Add one reading: the VMAs that only the shadow or only the reading has."""
        self._strikes = {vma: self._strikes.get(vma, 0) + 1 for vma in wrong}

    @property
    def settled(self) -> bool:
        """Whether the last reading is equal, or all its differences are certain."""
        return all(count >= READINGS for count in self._strikes.values())
