# SPDX-License-Identifier: GPL-2.0-only
"""How much memory the shadows of a trace may take: a trace is not to be trusted with it."""

import weakref
from typing import Any

__all__ = ("MAX_MEMORY", "NoRoomError", "Room")

MAX_MEMORY = 512 << 20
"""Bytes that a trace may make its shadows take: page tables of a process with 3 TiB."""

_PER_SLOT = 1024
"""Bytes of the room for each slot that calls may fill without a reading."""
_PER_MAPPING = 4096
_PEAK = 2
"""An array that grows is there twice for a moment."""


class NoRoomError(Exception):
    """There is no room for what an event or a reading claims; says what."""


class Room:
    """Memory that several tables share.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken = weakref.WeakKeyDictionary[Any, int]()
        self._total = 0

    @property
    def fills(self) -> int:
        """Slots that calls may fill without a reading; see `shadow.table.fills`."""
        return self.limit // _PER_SLOT

    @property
    def mappings(self) -> int:
        """Mappings that one process may have: beyond 65,530 (vm.max_map_count) few have any."""
        return self.limit // _PER_MAPPING

    def claim(self, owner: Any, size: int) -> None:
        """`owner` takes `size` bytes by now.

        Raises:
            NoRoomError: that is too much.
        """
        self._total += size - self._taken.get(owner, 0)
        self._taken[owner] = size
        if self._total * _PEAK > self.limit:
            raise NoRoomError(f"its page tables need more than {self.limit >> 20:,} MiB of memory")
