# SPDX-License-Identifier: GPL-2.0-only
"""Reading a trace: record after record, up to its end or its damage."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import pyarrow as pa

from shadow.errors import DamagedTraceError, UsageError
from shadow.geometry import user_address_limit
from shadow.records import Facts, Record
from shadow.trace.decode import decode
from shadow.trace.layout import MOST_ROWS, SCHEMA, VERSION
from shadow.trace.seal import END, BrokenSealError, check, length_of, opened
from shadow.trace.unpacked import unpacked_rows_and_bytes

__all__ = ("TraceEntry", "TraceReader")

_PREFIX = 8
_FEWEST_LEVELS = 4
_MOST_PROCESSES = 1 << 31
_DAMAGE = (
    BrokenSealError,
    OSError,  # Arrow's word for what cannot be decompressed, too
    MemoryError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    RecursionError,
    struct.error,
    pa.ArrowException,
)
"""What may come of bytes that cannot be read, or were made by somebody who means harm."""


def _opened(head: bytes, body: bytes) -> Any:
    """Arrow's view of a message."""
    return pa.ipc.read_message(pa.py_buffer(head + body))


@dataclass(frozen=True)
class TraceEntry:
    """A record of a trace.

    Attributes:
        process: number of the process within the trace, from 1.
        record: what happened to it.
    """

    process: int
    record: Record


class TraceReader:
    """A trace, from its beginning to its end, in constant memory.

    Args:
        file: an Arrow file or anything readable and binary.
        name: what messages call it.
        most_bytes: of a record, as it is in memory.

    Raises:
        DamagedTraceError: it does not begin as a trace does.
        UsageError: a later version made it.
    """

    def __init__(self, file: Any, name: str, most_bytes: int = 128 << 20) -> None:
        self._file = file if isinstance(file, pa.NativeFile) else pa.PythonFile(file, "r")
        self._name = name
        self.size: int = self._file.size()
        self.position = 0
        """Bytes read and found to be whole."""
        self._sequence = 0
        self._most_bytes = most_bytes
        self._waiting = 0
        """Bytes of batches whose records are not complete."""
        try:
            fields, *message = self._message()
            if fields["version"] > VERSION:
                raise UsageError(
                    f"{name} has format {fields['version']}, made by a later ptescope; this one "
                    f"reads up to {VERSION}."
                )
            self._schema = pa.ipc.read_schema(_opened(*message))
            if self._schema.remove_metadata() != SCHEMA:
                raise BrokenSealError("its columns are not those of a trace")
        except _DAMAGE as error:
            raise DamagedTraceError(
                f"{name} is no trace of ptescope, or is damaged at its very beginning: {error}."
            ) from error

    def _read(self, count: int) -> bytes:
        left = self.size - self._file.tell()
        if count > left:
            raise BrokenSealError(f"the file ends {count - left} bytes too early")
        data: bytes = self._file.read(count)
        if len(data) < count:
            raise BrokenSealError("the file ends too early")
        return data

    def _message(self) -> tuple[dict[str, Any], bytes, bytes]:
        """The next message: what its seal says, prefix and metadata, and the body."""
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
                f"{self._most_bytes >> 20:,} MiB (--max-memory takes more)"
            )
        return fields, pa.ipc.read_record_batch(_opened(head, body), self._schema)

    def __iter__(self) -> Iterator[TraceEntry]:
        """The records in order.

        Yields:
            Each record that is whole.

        Raises:
            DamagedTraceError: at the first thing that is not as it was written.
        """
        parts: dict[int, list[pa.RecordBatch]] = {}
        limits: dict[int, int] = {}
        while True:
            place = self._place = self.position
            try:
                if place == self.size:
                    raise BrokenSealError("it has no trailer; its recorder did not come to an end")
                fields, batch = self._batch()
                if fields["record"] == "end":
                    break
                process = fields["process"]
                if type(process) is not int or not 0 < process < _MOST_PROCESSES:
                    raise BrokenSealError("a record of no process")
                parts.setdefault(process, []).append(batch)
                if fields.get("more"):
                    continue
                limit = limits.get(process, user_address_limit(_FEWEST_LEVELS))
                record = decode(fields["record"], parts.pop(process), limit)
                if isinstance(record, Facts):
                    # The first counts, as for the shadow that is made by it.
                    limits.setdefault(process, user_address_limit(record.kernel.levels))
                if not parts:
                    self._waiting = 0
            except _DAMAGE as error:
                raise DamagedTraceError(self._damage(place, str(error))) from error
            yield TraceEntry(process, record)
        if self._file.read(len(END) + 1) != END:
            raise DamagedTraceError(self._damage(self.position, "its end is not as written"))

    def damage(self, what: str) -> DamagedTraceError:
        """That the record which was read last cannot be so, as an error."""
        return DamagedTraceError(self._damage(self._place, what))

    def _damage(self, place: int, what: str) -> str:
        return (
            f"{self._name} is damaged at byte {place:,} of {self.size:,} (batch {self._sequence}): "
            f"{what}. What precedes it is whole, and is reported."
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "TraceReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
