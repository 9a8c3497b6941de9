# SPDX-License-Identifier: GPL-2.0-only
"""The messages between ptescope and its unwinder: length-prefixed msgpack on pipes."""

import struct
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from shadow.stacks import Frame, Stack

__all__ = ("Batch", "MessageBuffer", "Order", "SAMPLE_ROW", "Work", "packed")

SAMPLE_ROW = np.dtype([("time", "<u8"), ("owner", "<u4"), ("tid", "<u4"), ("stack", "<u4")])
"""A sample in a `Batch`."""
_LENGTH = struct.Struct("<I")
_LONGEST = 64 << 20


class Order(msgspec.Struct, frozen=True):
    """An order to the unwinder.

    Attributes:
        follow: read the mappings of this process, which is followed from now on; 0: none.
        flush: unwind all samples that are in the ring, and answer with this number; 0: no flush.
    """

    follow: int = 0
    flush: int = 0


class Work(msgspec.Struct):
    """What the unwinder has done for one process so far; see `shadow.stacks.StackTotals`."""

    unwound: int = 0
    complete: int = 0
    repeats: int = 0
    unwind_ns: int = 0
    names_ns: int = 0


class Batch(msgspec.Struct, frozen=True):
    """Results of the unwinder.

    Attributes:
        frames: new distinct frames; they are numbered in the order of their arrival.
        stacks: new distinct stacks, likewise.
        samples: (owner, tid, time, stack number) of each sample, as `SAMPLE_ROW`.
        work: by owner, for those with samples in this batch.
        flushed: the number of the last flush that is done; 0: none.
        problem: why the unwinder ends now; None: it does not.
    """

    frames: list[Frame]
    stacks: list[Stack]
    samples: bytes
    work: dict[int, Work]
    flushed: int
    problem: str | None = None


def packed(message: Any) -> bytes:
    """A message with its length."""
    data = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(data)) + data


class MessageBuffer:
    """Splits what comes out of a pipe into messages of one type.

    Args:
        kind: the type.
    """

    def __init__(self, kind: type[Any]) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._data = bytearray()

    def messages(self, data: bytes) -> Iterator[Any]:
        """Add data; yields the messages that are complete.

        Raises:
            ValueError: the other side has not written a message.
        """
        self._data += data
        while len(self._data) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._data)
            if length > _LONGEST:
                raise ValueError(f"a message of {length:,} bytes")
            end = _LENGTH.size + length
            if len(self._data) < end:
                return
            message = self._decoder.decode(memoryview(self._data)[_LENGTH.size : end].tobytes())
            del self._data[:end]
            yield message
