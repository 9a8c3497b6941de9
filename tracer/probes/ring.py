# SPDX-License-Identifier: GPL-2.0-only
"""The BPF ring buffer, mapped and read as numpy arrays without a callback per event.

Layout (kernel/bpf/ringbuf.c): one page has the consumer's position and one the producer's. The
data area follows twice in a row, so that a record that wraps is contiguous. Here, only the first
pages of the second one are mapped, because all pages of this mapping count as resident. A record is
an 8-byte header (length with BUSY in bit 31 and DISCARD in bit 30, page offset) and its data,
padded to 8 bytes. Positions only grow. All records of a ring have one size here, so the data area
is an array of fixed stride. Records are in the kernel's order of reservation.

The kernel clears BUSY when a filled record is submitted, so a header that is read before the data
and is not BUSY proves that the data is complete. Some processors, such as those of arm64, reorder
loads, so a fence stands between the loads of the producer's position, of the headers and of the
data, and before the store of the consumer's position. It takes 0.1 us, so x86-64 has it too.
"""

import mmap
import struct
import threading
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from shadow.events import EVENT

__all__ = ("Ring",)

_WORD = np.dtype("<u8")
_BUSY, _DISCARD = np.uint64(1 << 31), np.uint64(1 << 30)
"""Bits of the header, in the first word of a record on a little-endian processor."""
_FLAGS = _BUSY | _DISCARD
_POSITION = struct.Struct("<Q")


class Ring:
    """A ring buffer map of items of one type.

    Args:
        fd: file descriptor of the map.
        size: bytes of its data area, a power of two.
        item: the type of its items, a multiple of 8 bytes.
    """

    def __init__(self, fd: int, size: int, item: np.dtype[np.void] = EVENT) -> None:
        page = mmap.PAGESIZE
        self.size = size
        self._item, self._words = item, 1 + item.itemsize // _WORD.itemsize
        self._stride = self._words * _WORD.itemsize
        self._consumer = mmap.mmap(fd, page, mmap.MAP_SHARED)
        wraps = -(-self._stride // page) * page
        self._producer = mmap.mmap(
            fd, page + size + wraps, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
        )
        self._data = np.frombuffer(self._producer, _WORD, offset=page)
        (self._position,) = _POSITION.unpack_from(self._consumer)
        self._lock = threading.Lock()
        self._lock.acquire()

    def backlog(self) -> int:
        """Bytes that are written but not yet read."""
        (produced,) = _POSITION.unpack_from(self._producer)
        return int(produced - self._position)

    def _fence(self) -> None:
        """Order all loads before this call before all accesses after it.

        The release orders the earlier loads before its store. The acquisition reads that store,
        and later accesses come after it.
        """
        self._lock.release()
        self._lock.acquire()

    def read(self, most: int | None = None) -> npt.NDArray[np.void]:
        """Read the submitted items in order, at most half a ring.

        Args:
            most: the maximum number of items; None: no other limit.

        Returns:
            (n,) items, a copy, so that the kernel can reuse the space.
        """
        count = min(self.backlog(), self.size // 2) // self._stride
        count = count if most is None else min(count, most)
        self._fence()
        parts = [np.empty(0, self._item)]
        while count:
            until_end = -((self._start - self.size) // self._stride)  # the last one may wrap
            ahead = min(count, until_end)
            before = self._position
            parts.append(self._take(ahead))
            submitted = self._position - before == ahead * self._stride
            count = count - ahead if submitted else 0
        self._fence()
        _POSITION.pack_into(self._consumer, 0, self._position)
        return parts[-1] if len(parts) <= 2 else np.concatenate(parts)

    @property
    def _start(self) -> int:
        """Where the next record is in the data area."""
        return int(self._position) & (self.size - 1)

    def _take(self, count: int) -> npt.NDArray[np.void]:
        """Take so many contiguous records, or those before the first one that is not submitted."""
        start = self._start // _WORD.itemsize
        records = self._data[start : start + count * self._words].reshape(count, self._words)
        flags = records[:, 0] & _FLAGS
        self._fence()
        if flags.any():
            busy = np.flatnonzero(flags & _BUSY)
            count = int(busy[0]) if len(busy) else count
            records = records[:count][flags[:count] & _DISCARD == 0]
        self._position += count * self._stride
        # numpy copies rows of words three times as fast as records.
        # Not ascontiguousarray, which returns a single row as it is.
        items: npt.NDArray[np.void] = records[:, 1:].copy().view(self._item)[:, 0]
        return items

    def close(self) -> None:
        """Unmap the ring."""
        del self._data
        with suppress(BufferError):  # an interrupted read still has a view
            self._producer.close()
        self._consumer.close()
