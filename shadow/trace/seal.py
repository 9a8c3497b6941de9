# SPDX-License-Identifier: GPL-2.0-only
"""Seals: checksums that cover every byte of a trace.

An Arrow IPC stream is a sequence of encapsulated messages: FFFFFFFF, the length
of the metadata, the metadata (a flatbuffer), the body (Arrow, "IPC streaming
format"). The custom metadata of each message of a trace has one JSON object
that begins with a CRC-32 and a length. Both cover the whole message, with the digits
of the CRC taken as 0. So a reader verifies a message before it parses any of it, and
never trusts a length before it has verified it.

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
    """A message is damaged; the text of the exception states how."""


def blank(**fields: Any) -> bytes:
    """An empty seal, which `seal` fills in when the message is complete."""
    return _BLANK + json.dumps(fields, separators=(",", ":")).encode()[1:]


def seal(message: bytearray) -> None:
    """Fill in the seal of a message."""
    crc = message.index(_BLANK) + len(b'{"crc32":"')
    length = crc + len(_NO_CRC) + len(b'","bytes":"')
    message[length : length + len(_NO_LENGTH)] = b"%012d" % len(message)
    message[crc : crc + len(_NO_CRC)] = b"%08x" % zlib.crc32(message)


def length_of(prefix: bytes) -> int:
    """The length in bytes of the metadata after a prefix of 8 bytes.

    Raises:
        BrokenSealError: the prefix is not that of a message.
    """
    continues, length = _PREFIX.unpack(prefix)
    if continues != _CONTINUES or not 0 < length <= _MOST_METADATA:
        raise BrokenSealError("no message begins here")
    return int(length)


def opened(head: bytes) -> tuple[dict[str, Any], int]:
    """The fields of the seal in prefix and metadata, and the length of the whole message.

    They are unverified until `check`.

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
    """Verify the CRC of a message with a seal.

    Raises:
        BrokenSealError: the message was altered.
    """
    match = _SEAL.search(head)
    assert match
    begin, end = match.span(1)
    crc = zlib.crc32(head[end:], zlib.crc32(_NO_CRC, zlib.crc32(head[:begin])))
    if zlib.crc32(body, crc) != int(match[1], 16):
        raise BrokenSealError("it was altered (wrong CRC)")
