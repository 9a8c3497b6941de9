# SPDX-License-Identifier: GPL-2.0-only
"""Writes records to a trace file as sealed messages.

`shadow.trace.encode` turns a record into Arrow batches, `Encoder` turns each batch into a
message, and `TraceFile` appends it, so that the file always ends with a complete message.
"""

import io
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from shadow.errors import OutputError
from shadow.private_file import NewFile
from shadow.records import Events, Record
from shadow.trace.encode import encode
from shadow.trace.layout import SCHEMA, VERSION, name_of
from shadow.trace.seal import END, KEY, blank, seal

__all__ = ("Encoder", "TraceFile")

_LEVEL = 1
"""zstd: higher levels take 3 to 10 times as long for 5 % less."""

_EMPTY = pa.RecordBatch.from_pylist([], SCHEMA)


class _Sink(io.RawIOBase):
    """Collects the bytes that Arrow writes for one message."""

    def __init__(self) -> None:
        self.message = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.message += data
        return len(data)


class Encoder:
    """Produces the sealed messages of one trace, in order."""

    def __init__(self) -> None:
        self._sink = _Sink()
        self._sequence = 0
        # No threads: the processors belong to the traced processes.
        codec = pa.Codec("zstd", compression_level=_LEVEL)
        options = pa.ipc.IpcWriteOptions(compression=codec, use_threads=False)
        self._schema = SCHEMA.with_metadata({KEY: blank(version=VERSION)})
        self._writer = pa.ipc.new_stream(
            pa.PythonFile(self._sink, "w"), self._schema, options=options
        )
        self._writer.write_batch(_EMPTY)  # Arrow writes the schema before the first batch
        self._sink.message.clear()

    def schema(self) -> bytearray:
        """The first message."""
        message = bytearray(self._schema.serialize())
        seal(message)
        return message

    def batch(self, batch: pa.RecordBatch, **fields: Any) -> bytearray:
        """A message with this batch; `fields` go into its seal."""
        text = blank(sequence=self._sequence, **fields)
        self._sequence += 1
        self._writer.write_batch(batch, custom_metadata={KEY: text})
        message, self._sink.message = self._sink.message, bytearray()
        seal(message)
        return message

    def trailer(self, **fields: Any) -> bytearray:
        """The last message, and the end mark of the stream."""
        return self.batch(_EMPTY, record="end", **fields) + END


class TraceFile:
    """A new trace; as a context manager, it deletes the file if the block raises.

    Args:
        path: the file; its mode is 0600.
        force: whether to replace an existing file.

    Raises:
        UsageError: the file exists already, or cannot be created.
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self.path = path
        self.size = self.events = 0
        """Bytes and events written."""
        self._place = NewFile(path, force=force)
        self._encoder = Encoder()
        try:
            self._put(self._encoder.schema())
        except OSError as error:
            self.discard_unpublished()
            raise OutputError(f"{path} cannot be written: {error.strerror}.") from error

    def _put(self, message: bytes | bytearray) -> None:
        view = memoryview(message)
        try:
            while len(view):
                view = view[os.write(self._place.fd, view) :]
        except OSError:
            os.ftruncate(self._place.fd, self.size)  # the file ends with a complete message
            raise
        self.size += len(message)

    def write(self, process: int, pid: int, record: Record) -> None:
        """Append a record, as one sealed message for each of its Arrow batches.

        Args:
            process: number of the process within the trace, from 1.
            pid: pid of the process.
            record: the record.

        Raises:
            OSError: the record cannot be written; the file still ends with a complete message.
        """
        batches = list(encode(record, pid))
        for number, batch in enumerate(batches, 1):
            fields = {
                "record": name_of(record),
                "process": process,
                "more": len(batches) - number,
            }
            self._put(self._encoder.batch(batch, **fields))
        if isinstance(record, Events):
            self.events += len(record.batch)

    def end(self, dropped: int = 0) -> None:
        """Append the trailer, which marks the trace as complete.

        Args:
            dropped: number of events that are missing because writing was too slow.

        Raises:
            OSError: the trailer cannot be written.
        """
        self._put(self._encoder.trailer(events=self.events, dropped=dropped))

    def publish(self) -> None:
        """Move the file to its final path, so that others can open it.

        Raises:
            UsageError: another file has appeared at that path.
            OutputError: the file cannot be moved there.
        """
        self._place.publish()

    def close(self) -> None:
        """Close the file, and move it to its final path.

        Raises:
            UsageError, OutputError: see `publish`.
        """
        os.close(self._place.fd)
        self.publish()

    def discard_unpublished(self) -> None:
        """Delete the file, unless it is at its final path already."""
        self._place.discard()

    def __enter__(self) -> "TraceFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._place.__exit__(kind, error, trace)
        if isinstance(error, OSError):
            raise OutputError(f"{self.path} cannot be written: {error.strerror}.") from error
