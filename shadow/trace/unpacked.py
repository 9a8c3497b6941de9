# SPDX-License-Identifier: GPL-2.0-only
"""Computes the memory that a message will take, before Arrow decompresses it.

A few bytes of zstd can claim to be gigabytes, and Arrow allocates the claimed size. The
claim is stored uncompressed before each buffer (Arrow, "IPC buffer compression"). The
metadata of the message, a flatbuffer (format/Message.fbs), has the offsets of the buffers.
"""

import struct

__all__ = ("unpacked_rows_and_bytes",)

_HEADER, _LENGTH, _BUFFERS = 2, 0, 2
"""Indices of the fields Message.header, RecordBatch.length and RecordBatch.buffers."""
_MOST_BUFFERS = 64
_AS_IT_IS = -1
"""The claim of a buffer that is stored uncompressed."""


def _field(data: bytes, table: int, place: int) -> int:
    """The offset of a field of a table; 0 if the table lacks it."""
    vtable = table - _at("<i", data, table)
    if 4 + 2 * place + 2 > _at("<H", data, vtable):
        return 0
    offset = _at("<H", data, vtable + 4 + 2 * place)
    return table + offset if offset else 0


def _at(form: str, data: bytes, at: int) -> int:
    if at < 0:
        raise ValueError("a message with an offset outside itself")
    (value,) = struct.unpack_from(form, data, at)
    return int(value)


def _target(data: bytes, at: int) -> int:
    return at + _at("<I", data, at)


def unpacked_rows_and_bytes(metadata: bytes, body: bytes) -> tuple[int, int]:
    """The rows and bytes that a record batch claims to have.

    Args:
        metadata: the flatbuffer of the message.
        body: the body of the message.

    Raises:
        ValueError: the message is not a record batch.
        struct.error: the message is too short.
    """
    message = _target(metadata, 0)
    header = _field(metadata, message, _HEADER)
    if not header:
        raise ValueError("a message without a header")
    batch = _target(metadata, header)
    length, buffers = (_field(metadata, batch, place) for place in (_LENGTH, _BUFFERS))
    rows = _at("<q", metadata, length) if length else 0
    if not buffers:
        return rows, 0
    vector = _target(metadata, buffers)
    count = _at("<I", metadata, vector)
    if count > _MOST_BUFFERS:
        raise ValueError(f"a message of {count} buffers")
    total = 0
    for number in range(count):
        offset, size = (_at("<q", metadata, vector + 4 + 16 * number + 8 * i) for i in (0, 1))
        if size:
            claimed = _at("<q", body, offset)
            total += size if claimed == _AS_IT_IS else max(claimed, size)
    return rows, total
