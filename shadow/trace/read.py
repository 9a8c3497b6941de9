"""Reading a trace: record after record, up to its end or its damage."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import pyarrow as pa

from shadow.errors import DamagedTraceError, UsageError
from shadow.records import Record
from shadow.trace.decode import decode
from shadow.trace.layout import SCHEMA, VERSION
from shadow.trace.seal import END, BrokenSealError, check, length_of, opened

__all__ = ("Entry", "TraceReader")

_PREFIX = 8
_DAMAGE = (
    BrokenSealError,
    OSError,  # Arrow's word for what cannot be decompressed, too
    MemoryError,
    ValueError,
    LookupError,
    TypeError,
    pa.ArrowException,
)
"""What may come of bytes that cannot be read, or were made by somebody who means harm."""


@dataclass(frozen=True)
class Entry:
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

    Raises:
        DamagedTraceError: it does not begin as a trace does.
        UsageError: a later version made it.
    """

    def __init__(self, file: Any, name: str) -> None:
        self._file = file if isinstance(file, pa.NativeFile) else pa.PythonFile(file, "r")
        self._name = name
        self.size: int = self._file.size()
        self.position = 0
        """Bytes read and found to be whole."""
        self._sequence = 0
        try:
            fields, message = self._message()
            if fields["version"] > VERSION:
                raise UsageError(
                    f"{name} has format {fields['version']}, made by a later ptescope; this one "
                    f"reads up to {VERSION}."
                )
            self._schema = pa.ipc.read_schema(message)
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

    def _message(self) -> tuple[dict[str, Any], Any]:
        """The next message: what its seal says, and Arrow's view of it."""
        prefix = self._read(_PREFIX)
        head = prefix + self._read(length_of(prefix))
        fields, length = opened(head)
        body = self._read(max(length - len(head), 0))
        check(head, body)
        self.position += length
        return fields, pa.ipc.read_message(pa.py_buffer(head + body))

    def _batch(self) -> tuple[dict[str, Any], pa.RecordBatch]:
        fields, message = self._message()
        if fields["sequence"] != self._sequence:
            raise BrokenSealError(f"batch {self._sequence} is missing")
        self._sequence += 1
        return fields, pa.ipc.read_record_batch(message, self._schema)

    def __iter__(self) -> Iterator[Entry]:
        """The records in order.

        Yields:
            Each record that is whole.

        Raises:
            DamagedTraceError: at the first thing that is not as it was written.
        """
        parts: dict[int, list[pa.RecordBatch]] = {}
        while True:
            place = self.position
            try:
                if place == self.size:
                    raise BrokenSealError("it has no trailer; its recorder did not come to an end")
                fields, batch = self._batch()
                if fields["record"] == "end":
                    break
                process = fields["process"]
                parts.setdefault(process, []).append(batch)
                if fields.get("more"):
                    continue
                record = decode(fields["record"], parts.pop(process))
            except _DAMAGE as error:
                raise DamagedTraceError(self._damage(place, str(error))) from error
            yield Entry(process, record)
        if self._file.read(len(END) + 1) != END:
            raise DamagedTraceError(self._damage(self.position, "its end is not as written"))

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
