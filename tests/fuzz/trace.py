# SPDX-License-Identifier: GPL-2.0-only
"""Fuzz the reader of traces with atheris: python -m tests.fuzz.trace [-max_total_time=60].

It alternates two changes. The first changes a trace at any place: the reader must return what was
written before the change, and report the damage. The second changes one message and seals it
again, as an attacker would: the reader may return anything, but must raise no other errors than
its own.

Needs `pip install 'ptescope[fuzz]'`; arguments are those of libFuzzer.
"""

import io
import struct
import sys
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris
import pyarrow as pa

from shadow.errors import PtescopeError
from shadow.trace import TraceReader
from shadow.trace.encode import encode
from tests.shadow.trace.traces import write_trace

_CRC, _LENGTH = len(b'{"crc32":"'), len(b'{"crc32":"00000000","bytes":"')
_SEAL = b'{"crc32":"'


def _whole() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "t.arrows"
        write_trace(path, pids=(7, 8))
        return path.read_bytes()


def _read(data: bytes) -> tuple[list[list[pa.RecordBatch]], list[int], bool]:
    """The records, where each ends, and whether there was damage."""
    found, ends = [], []
    try:
        with TraceReader(io.BytesIO(data), "it") as reader:
            for entry in reader:
                found.append(list(encode(entry.record, 7)))
                ends.append(reader.position)
    except PtescopeError:
        return found, ends, True
    return found, ends, False


_WHOLE = _whole()
_RECORDS, _ENDS, _ = _read(_WHOLE)


def _sealed(message: bytearray) -> bytes:
    """The message with a matching seal, if it still has a place for one."""
    at = message.find(_SEAL)
    if at < 0 or at + _LENGTH + 12 > len(message):
        return bytes(message)
    message[at + _LENGTH : at + _LENGTH + 12] = b"%012d" % len(message)
    message[at + _CRC : at + _CRC + 8] = b"0" * 8
    message[at + _CRC : at + _CRC + 8] = b"%08x" % zlib.crc32(message)
    return bytes(message)


def _change(data: bytearray, provider: atheris.FuzzedDataProvider) -> int:
    """Overwrite a few bytes; returns their offset."""
    at: int = provider.ConsumeIntInRange(0, len(data) - 1)
    put = provider.ConsumeBytes(provider.ConsumeIntInRange(1, 8))
    data[at : at + len(put)] = put
    return at


def _harm(provider: atheris.FuzzedDataProvider) -> None:
    which = provider.ConsumeIntInRange(0, len(_ENDS) - 2)
    message = bytearray(_WHOLE[_ENDS[which] : _ENDS[which + 1]])
    (head,) = struct.unpack_from("<4xi", message)
    while provider.remaining_bytes() > 2:
        # Change the metadata as often as the body, which is usually larger.
        part = message[: 8 + head] if provider.ConsumeBool() else message[8 + head :]
        if part:
            at = _change(part, provider)
            offset = 0 if len(part) == 8 + head else 8 + head
            message[offset + at : offset + len(part)] = part[at:]
    _read(_WHOLE[: _ENDS[which]] + _sealed(message) + _WHOLE[_ENDS[which + 1] :])


def _damage(provider: atheris.FuzzedDataProvider) -> None:
    data = bytearray(_WHOLE)
    first = min(_change(data, provider) for _ in range(provider.ConsumeIntInRange(1, 3)))
    if data == _WHOLE:
        return
    found, _, damaged = _read(bytes(data))
    assert damaged
    # The new bytes may equal the old ones.
    assert len(found) >= sum(end <= first for end in _ENDS)
    assert found == _RECORDS[: len(found)]


def _test(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    (_harm if provider.ConsumeBool() else _damage)(provider)


if __name__ == "__main__":
    atheris.instrument_all()
    atheris.Setup(sys.argv, _test)
    atheris.Fuzz()
