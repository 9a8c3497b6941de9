# SPDX-License-Identifier: GPL-2.0-only
"""Reads a trace record by record, up to its end or its damage."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from shadow.errors import DamagedTraceError, UsageError
from shadow.geometry import X86_64, Geometry
from shadow.records import Facts, Record
from shadow.trace.decode import decode
from shadow.trace.layout import MOST_ROWS, SCHEMA, VERSION
from shadow.trace.seal import END, BrokenSealError, check, length_of, opened
from shadow.trace.unpacked import unpacked_rows_and_bytes

__all__ = ("TraceEntry", "TraceReader")

_PREFIX = 8
_MOST_PROCESSES = 1 << 31
_DAMAGE = (
    BrokenSealError,
    OSError,  # Arrow raises it also for data that cannot be decompressed
    MemoryError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    RecursionError,
    struct.error,
    pa.ArrowException,
)
"""Exceptions that damaged or malicious bytes can cause."""


def _opened(head: bytes, body: bytes) -> Any:
    """Parse a message with Arrow."""
    return pa.ipc.read_message(pa.py_buffer(head + body))


@dataclass(frozen=True)
class TraceEntry:
    """A record of a trace.

    Attributes:
        process: number of the process within the trace, from 1.
        record: a record of that process.
    """

    process: int
    record: Record


class TraceReader:
    """A trace, from its beginning to its end, in constant memory.

    Args:
        file: an Arrow file or any readable binary file.
        name: the name of the trace in messages.
        most_bytes: limit on the size of a record in memory, bytes.

    Raises:
        DamagedTraceError: the file does not begin like a trace.
        UsageError: a later version wrote the trace.
    """

    def __init__(self, file: Any, name: str, most_bytes: int = 128 << 20) -> None:
        self._file = file if isinstance(file, pa.NativeFile) else pa.PythonFile(file, "r")
        self._name = name
        self.size: int = self._file.size()
        self.position = 0
        """Number of bytes read and verified."""
        self._sequence = 0
        self._most_bytes = most_bytes
        self._waiting = 0
        """Size in memory of the batches whose records are not complete yet."""
        try:
            fields, *message = self._message()
            if fields["version"] > VERSION:
                raise UsageError(
                    f"{name} has format {fields['version']} of a later ptescope; this version "
                    f"reads formats up to {VERSION}. Upgrade ptescope."
                )
            self._schema = pa.ipc.read_schema(_opened(*message))
            if self._schema.remove_metadata() != SCHEMA:
                raise BrokenSealError("its columns are not those of a trace")
        except _DAMAGE as error:
            raise DamagedTraceError(
                f"{name} is not a ptescope trace, or is damaged at its beginning: {error}."
            ) from error

    def _read(self, count: int) -> bytes:
        left = self.size - self._file.tell()
        if count > left:
            raise BrokenSealError(f"the file ends {count - left} bytes too soon")
        data: bytes = self._file.read(count)
        if len(data) < count:
            raise BrokenSealError("the file ends too soon")
        return data

    def _message(self) -> tuple[dict[str, Any], bytes, bytes]:
        """Read the next message: the fields of its seal, prefix and metadata, and the body."""
        prefix = self._read(_PREFIX)
        head = prefix + self._read(length_of(prefix))
        fields, length = opened(head)
        if length > len(head) + self._most_bytes:
            raise BrokenSealError(f"a message of {length:,} bytes")
        body = self._read(max(length - len(head), 0))
        check(head, body)
        self.position += length
        return fields, head, body

    def _batch(self) -> tuple[dict[str, Any], pa.RecordBatch]:
        fields, head, body = self._message()
        if fields["sequence"] != self._sequence:
            raise BrokenSealError(f"batch {self._sequence} is missing")
        self._sequence += 1
        rows, size = unpacked_rows_and_bytes(head[_PREFIX:], body)
        self._waiting += size
        if not 0 <= rows <= MOST_ROWS or self._waiting > self._most_bytes:
            raise BrokenSealError(
                f"a record of more than {MOST_ROWS:,} rows in a batch, or of more than "
                f"{self._most_bytes >> 20:,} MiB (--max-memory allows more)"
            )
        return fields, pa.ipc.read_record_batch(_opened(head, body), self._schema)

    def __iter__(self) -> Iterator[TraceEntry]:
        """The records in order.

        Yields:
            Each intact record.

        Raises:
            DamagedTraceError: at the first damaged message.
        """
        parts: dict[int, list[pa.RecordBatch]] = {}
        geometries: dict[int, Geometry] = {}
        while True:
            place = self._place = self.position
            try:
                if place == self.size:
                    raise BrokenSealError("it has no trailer, because its recorder did not finish")
                fields, batch = self._batch()
                if fields["record"] == "end":
                    break
                process = fields["process"]
                if type(process) is not int or not 0 < process < _MOST_PROCESSES:
                    raise BrokenSealError("a record with an invalid process number")
                parts.setdefault(process, []).append(batch)
                if fields.get("more"):
                    continue
                geometry = geometries.get(process, X86_64)
                record = decode(fields["record"], parts.pop(process), geometry)
                if isinstance(record, Facts):
                    # The first facts count, as for the engine that they create.
                    geometries.setdefault(process, record.kernel.geometry)
                if not parts:
                    self._waiting = 0
            except _DAMAGE as error:
                raise DamagedTraceError(self._damage(place, str(error))) from error
            yield TraceEntry(process, record)
        if self._file.read(len(END) + 1) != END:
            raise DamagedTraceError(self._damage(self.position, "its end mark was altered"))

    def damage(self, what: str) -> DamagedTraceError:
        """An error that reports the last record as damaged."""
        return DamagedTraceError(self._damage(self._place, what))

    def _damage(self, place: int, what: str) -> str:
        return (
            f"{self._name} is damaged at byte {place:,} of {self.size:,} (batch {self._sequence}): "
            f"{what}. Everything before that is intact, and is reported."
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "TraceReader":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
