# SPDX-License-Identifier: GPL-2.0-only
"""Seals: what makes every byte of a trace accountable.

An Arrow IPC stream is a sequence of encapsulated messages: FFFFFFFF, the length
of the metadata, the metadata (a flatbuffer), the body (Arrow, "IPC streaming
format"). The custom metadata of each message of a trace has one JSON object
that begins with a CRC-32 and a length, of the whole message with the digits of
the CRC taken as 0. So a message is known to be whole before any of it is
parsed, and its length does not have to be believed before it is checked.

The stream ends with FFFFFFFF 00000000, after the trailer.
"""

import json
import re
import struct
import zlib
from typing import Any

__all__ = ("END", "KEY", "BrokenSealError", "blank", "check", "length_of", "opened", "seal")

KEY = b"ptescope"
"""The key of the custom metadata."""
END = b"\xff\xff\xff\xff\0\0\0\0"

_PREFIX = struct.Struct("<4si")
_CONTINUES = b"\xff\xff\xff\xff"
_MOST_METADATA = 1 << 20
_NO_CRC, _NO_LENGTH = b"0" * 8, b"0" * 12
_BLANK = b'{"crc32":"%s","bytes":"%s",' % (_NO_CRC, _NO_LENGTH)
_SEAL = re.compile(rb'\{"crc32":"([0-9a-f]{8})","bytes":"([0-9]{12})",[^{}]*\}')


class BrokenSealError(Exception):
    """These bytes are not a message as it was written; says what is wrong with them."""


def blank(**fields: Any) -> bytes:
    """A seal to be filled in once the message around it is there."""
    return _BLANK + json.dumps(fields, separators=(",", ":")).encode()[1:]


def seal(message: bytearray) -> None:
    """Fill in the seal of a message."""
    crc = message.index(_BLANK) + len(b'{"crc32":"')
    length = crc + len(_NO_CRC) + len(b'","bytes":"')
    message[length : length + len(_NO_LENGTH)] = b"%012d" % len(message)
    message[crc : crc + len(_NO_CRC)] = b"%08x" % zlib.crc32(message)


def length_of(prefix: bytes) -> int:
    """Bytes of the metadata that follow a prefix of 8 bytes.

    Raises:
        BrokenSealError: no message begins so.
    """
    continues, length = _PREFIX.unpack(prefix)
    if continues != _CONTINUES or not 0 < length <= _MOST_METADATA:
        raise BrokenSealError("no message begins here")
    return int(length)


def opened(head: bytes) -> tuple[dict[str, Any], int]:
    """What the seal in prefix and metadata says, and the length of the whole message.

    Nothing of it holds before `check`.

    Raises:
        BrokenSealError: there is no seal.
    """
    match = _SEAL.search(head)
    if match is None:
        raise BrokenSealError("its seal cannot be read")
    try:
        return json.loads(match[0]), int(match[2])
    except ValueError as error:
        raise BrokenSealError("its seal cannot be read") from error


def check(head: bytes, body: bytes) -> None:
    """Hold a message with a seal against the CRC in it.

    Raises:
        BrokenSealError: it is not as it was written.
    """
    match = _SEAL.search(head)
    assert match
    begin, end = match.span(1)
    crc = zlib.crc32(head[end:], zlib.crc32(_NO_CRC, zlib.crc32(head[:begin])))
    if zlib.crc32(body, crc) != int(match[1], 16):
        raise BrokenSealError("it is not as it was written (CRC)")
