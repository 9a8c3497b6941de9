# SPDX-License-Identifier: GPL-2.0-only
"""Track which slots an audit has compared over its readings.

One reading is enough for most slots: they have no recent event, and both sides are equal. A slot
with a recent event is read again. A slot counts as different only after several consecutive
readings in which it differs, because the event of a change may arrive late.
"""

import numpy as np
import numpy.typing as npt

__all__ = ("READINGS", "Coverage")

READINGS = 4
"""Consecutive readings in which a slot must differ, and minimum readings of an audit."""

_Slots = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]


class Coverage:
    """The slots of one audit."""

    def __init__(self) -> None:
        self._slots = np.empty(0, np.int64)
        self._strikes = np.empty(0, np.int64)
        """Number of consecutive readings in which each of `_slots` has differed."""
        self._readings = 0
        self._pte_pages = 0
        self.open = np.empty(0, np.int64)
        """(n,) ascending: slots without a result yet."""
        self.not_compared = 0
        """Number of PTE pages in `open`."""

    def add(self, slots: _Slots, pte_pages: _Mask, moving: _Mask, differs: _Mask) -> _Mask:
        """Add one reading.

        Args:
            slots: (n,) ascending: the slots of the reading.
            pte_pages: which have a PTE page, in the shadow or in the reading.
            moving: which had an event so recently that the reading proves nothing.
            differs: which of the others differ.

        Returns:
            (n,) which certainly differ.
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
        """Number of PTE pages with a result."""
        return max(self._pte_pages - self.not_compared, 0)

    def suffices(self, share: float) -> bool:
        """Whether this share of the PTE pages was compared, so that no other reading is needed."""
        if not len(self.open):
            return True
        enough = self.compared >= share * (self.compared + self.not_compared)
        return enough and self._readings >= READINGS
