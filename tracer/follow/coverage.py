# SPDX-License-Identifier: GPL-2.0-only
"""Which slots an audit has compared, over the readings that it takes.

One reading settles most slots: no event was near, and both sides are equal. A slot with a
recent event is read again. A slot that differs counts as different once it has differed
in several readings in a row, because a change may be under way whose event comes late.
"""

import numpy as np
import numpy.typing as npt

__all__ = ("READINGS", "Coverage")

READINGS = 4
"""Readings in a row in which a slot has to differ, and readings of an audit at least."""

_Slots = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]


class Coverage:
    """The slots of one audit."""

    def __init__(self) -> None:
        self._slots = np.empty(0, np.int64)
        self._strikes = np.empty(0, np.int64)
        """In how many readings in a row each of `_slots` has differed."""
        self._readings = 0
        self._pte_pages = 0
        self.open = np.empty(0, np.int64)
        """(n,) ascending: slots of which nothing is known yet."""
        self.not_compared = 0
        """PTE pages in them."""

    def add(self, slots: _Slots, pte_pages: _Mask, moving: _Mask, differs: _Mask) -> _Mask:
        """Take over one reading.

        Args:
            slots: (n,) ascending: those that were read.
            pte_pages: which have a PTE page, in the shadow or really.
            moving: which had an event so recent that the reading proves nothing.
            differs: which of the others differ.

        Returns:
            (n,) which differ for certain.
        """
        before = np.zeros(len(slots), np.int64)
        before[np.isin(slots, self._slots)] = self._strikes[np.isin(self._slots, slots)]
        strikes = np.where(differs, before + 1, 0)
        certain: _Mask = strikes >= READINGS
        still_open = moving | (differs & ~certain)
        if not self._readings:
            self._pte_pages = int(pte_pages.sum())
        self._readings += 1
        self._slots, self._strikes = slots, strikes
        self.open = slots[still_open]
        self.not_compared = int((still_open & pte_pages).sum())
        return certain

    @property
    def compared(self) -> int:
        """PTE pages of which it is known whether they differ."""
        return max(self._pte_pages - self.not_compared, 0)

    def suffices(self, share: float) -> bool:
        """Whether another reading is not worth while: that share of the PTE pages was compared."""
        if not len(self.open):
            return True
        enough = self.compared >= share * (self.compared + self.not_compared)
        return enough and self._readings >= READINGS
