# SPDX-License-Identifier: GPL-2.0-only
"""The stream as bytes: sealed messages out of record batches."""

import io
from typing import Any

import pyarrow as pa

from shadow.trace.layout import SCHEMA, VERSION
from shadow.trace.seal import END, KEY, blank, seal

__all__ = ("Encoder",)

_LEVEL = 1
"""zstd: higher levels take 3 to 10 times as long for 5 % less."""

_EMPTY = pa.RecordBatch.from_pylist([], SCHEMA)


class _Sink(io.RawIOBase):
    """Collects what Arrow writes of one message."""

    def __init__(self) -> None:
        self.message = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.message += data
        return len(data)


class Encoder:
    """Makes the messages of one trace, in order."""

    def __init__(self) -> None:
        self._sink = _Sink()
        self._sequence = 0
        # Without threads: the processors belong to whoever is traced.
        codec = pa.Codec("zstd", compression_level=_LEVEL)
        options = pa.ipc.IpcWriteOptions(compression=codec, use_threads=False)
        self._schema = SCHEMA.with_metadata({KEY: blank(version=VERSION)})
        self._writer = pa.ipc.new_stream(
            pa.PythonFile(self._sink, "w"), self._schema, options=options
        )
        self._writer.write_batch(_EMPTY)  # its schema comes before its first batch
        self._sink.message.clear()

    def schema(self) -> bytearray:
        """The first message."""
        message = bytearray(self._schema.serialize())
        seal(message)
        return message

    def batch(self, batch: pa.RecordBatch, **fields: Any) -> bytearray:
        """A message with this batch; `fields` go to its seal."""
        text = blank(sequence=self._sequence, **fields)
        self._sequence += 1
        self._writer.write_batch(batch, custom_metadata={KEY: text})
        message, self._sink.message = self._sink.message, bytearray()
        seal(message)
        return message

    def trailer(self, **fields: Any) -> bytearray:
        """The last message, and the end of the stream."""
        return self.batch(_EMPTY, record="end", **fields) + END
