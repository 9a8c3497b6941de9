# SPDX-License-Identifier: GPL-2.0-only
"""The arrays of one address space, which Python lengthens for compiled code.

Compiled functions allocate nothing. If the arrays are too short, they stop and return how
far they came; Python lengthens the arrays and calls them again.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from shadow.memory_limit import NoRoomError, Room
from shadow.table.counters import Counter
from shadow.table.state import State, grown

__all__ = ("FIRST_GROWTH", "GrowingState")

FIRST_GROWTH = 16


class GrowingState:
    """An address space with growing arrays.

    Args:
        state: the initial arrays.
        room: limit on their memory; None: no limit.
    """

    def __init__(self, state: State, room: Room | None = None) -> None:
        self.state = state
        self._room = room
        self._most_mappings = room.mappings if room else None

    def counter(self, counter: int) -> int:
        """The value of a `Counter` (add a `Policy` for counters per policy)."""
        return int(self.state.counters[counter])

    def vmas(self) -> npt.NDArray[np.void]:
        """(n,) of `VMA`, sorted: a view, which the next event may change."""
        return self.state.vmas[: self.counter(Counter.VMAS)]

    def lengthen(self, **places: int) -> None:
        """Make the arrays at least this long; see `shadow.table.state.grown`."""
        self.state = grown(self.state, **places)

    def run(self, advance: Callable[[int], int], count: int) -> None:
        """Call `advance(first)` until it returns `count`, lengthening the arrays in between.

        Raises:
            NoRoomError: the arrays would take more memory than the `room` has.
        """
        done, spare = advance(0), FIRST_GROWTH
        while done < count:
            self._grow(spare)
            before, done = done, advance(done)
            # A single event may need more than that.
            spare = FIRST_GROWTH if done > before else spare * 2

    def _grow(self, spare: int) -> None:
        """Lengthen every array that has less than `spare` left."""
        if self._room:
            self._room.claim(self, self._used_bytes())
        if self._most_mappings is not None and self.counter(Counter.VMAS) > self._most_mappings:
            raise NoRoomError(f"the process has more than {self._most_mappings:,} mappings")
        self.lengthen(
            tables=self.counter(Counter.TABLES_USED) + spare // 8,  # each larger than a record
            records=self.counter(Counter.RECORDS_USED) + spare,
            vmas=self.counter(Counter.VMAS) + spare,
            guards=self.counter(Counter.GUARDS) + spare,
        )

    def _used_bytes(self) -> int:
        """Bytes of the array elements in use; the others take no memory yet."""
        used: tuple[tuple[int, npt.NDArray[Any]], ...] = (
            (self.counter(Counter.RECORDS_USED), self.state.records),
            (self.counter(Counter.TABLES_USED), self.state.upper),
            (self.counter(Counter.VMAS), self.state.vmas),
            (2 * self.counter(Counter.GUARDS), self.state.guards),
        )
        return sum(count * array.itemsize for count, array in used)

    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.state.arrays())
