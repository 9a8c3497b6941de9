# SPDX-License-Identifier: GPL-2.0-only
"""The calls of a process that have begun and may have changed page tables, but sent no event yet.

A call sends its event when it returns. A MADV_DONTNEED of 4 GiB takes 0.3 s, during which
the page tables differ from the shadow more and more.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple, Self

import numpy as np

from shadow.table.page_set import Ranges, merged

__all__ = ("Progress", "owner_of")

_PROGRESS = struct.Struct("<QQII")
"""struct progress in bpf/probes/progress.c."""
_OWNER, _OF_A_FILE = 2, 0
_LIMIT = 1 << 62


def owner_of(call: bytes) -> int:
    """The pid of the process that a call may change; 0: every process that maps a file."""
    owner: int = _PROGRESS.unpack(call)[_OWNER]
    return owner


class Progress(NamedTuple):
    """The calls in progress that affect one process.

    Attributes:
        ranges: addresses that they may change, sorted and disjoint.
        cuts: whether a file that some process maps is being truncated, or gets a hole.
    """

    ranges: Ranges
    cuts: bool

    @classmethod
    def of(cls, calls: Iterable[bytes], pid: int) -> Self:
        """The calls that affect a process, among those of all processes."""
        known = [_PROGRESS.unpack(call) for call in calls]
        ranges = [
            (min(start, _LIMIT), min(start + length, _LIMIT))
            for start, length, owner, _ in known
            if owner == pid
        ]
        starts, ends = np.array(ranges, np.int64).reshape(-1, 2).T
        return cls(merged(starts, ends), any(owner == _OF_A_FILE for *_, owner, _ in known))

    @property
    def any(self) -> bool:
        """Whether there is a call at all."""
        return self.cuts or len(self.ranges[0]) > 0
