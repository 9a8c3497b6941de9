# SPDX-License-Identifier: GPL-2.0-only
"""A limit on the memory of the shadows of a trace, because a trace is untrusted input."""

import weakref
from typing import Any

from shadow.geometry import Geometry

__all__ = ("MAX_MEMORY", "NoRoomError", "Room")

MAX_MEMORY = 512 << 20
"""Default limit in bytes on the shadows of a trace: page tables of a process with 3 TiB."""

_PER_ENTRY = 2
"""Bytes of the limit for each entry of a slot that calls may fill without a reading."""
_PER_MAPPING = 4096
_PEAK = 2
"""An array that grows briefly exists twice."""


class NoRoomError(Exception):
    """An event or a reading needs more memory than the limit allows; the message names it."""


class Room:
    """A memory limit that several tables share.

    Args:
        limit: bytes that the tables may take together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken = weakref.WeakKeyDictionary[Any, int]()
        self._total = 0

    def fills(self, geometry: Geometry) -> int:
        """Slots that calls may fill without a reading; see `shadow.table.fills`."""
        return self.limit // (_PER_ENTRY * geometry.entries)

    @property
    def mappings(self) -> int:
        """Mappings that one process may have; few exceed the default vm.max_map_count of 65,530."""
        return self.limit // _PER_MAPPING

    def claim(self, owner: Any, size: int) -> None:
        """Record that `owner` takes `size` bytes now.

        Raises:
            NoRoomError: all owners together exceed the limit.
        """
        self._total += size - self._taken.get(owner, 0)
        self._taken[owner] = size
        if self._total * _PEAK > self.limit:
            raise NoRoomError(f"its page tables need more than {self.limit >> 20:,} MiB of memory")
