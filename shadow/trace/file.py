# SPDX-License-Identifier: GPL-2.0-only
"""A trace file that is being written: made safely, whole at every message."""

import os
from pathlib import Path
from types import TracebackType

from shadow.errors import OutputError
from shadow.private_file import NewFile
from shadow.records import Events, Record
from shadow.trace.encode import encode
from shadow.trace.layout import name_of
from shadow.trace.stream import Encoder

__all__ = ("TraceFile",)


class TraceFile:
    """A new trace; as a context manager it is discarded if the block raises.

    Args:
        path: where; mode 0600.
        force: whether to replace a file that is there.

    Raises:
        UsageError: it is there already, or cannot be made.
        OutputError: not even its first bytes can be written.
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
            os.ftruncate(self._place.fd, self.size)  # what is there ends with a whole message
            raise
        self.size += len(message)

    def write(self, process: int, pid: int, record: Record) -> None:
        """Append a record.

        Args:
            process: number of its process within the trace, from 1.
            pid: its process.
            record: what happened.

        Raises:
            OSError: it cannot be written; what was before it stays whole.
        """
        batches = list(encode(record, pid))
        for left, batch in zip(reversed(range(len(batches))), batches, strict=True):
            fields = {"record": name_of(record), "process": process, "more": left}
            self._put(self._encoder.batch(batch, **fields))
        if isinstance(record, Events):
            self.events += len(record.batch)

    def end(self, dropped: int = 0) -> None:
        """Append the trailer: the trace is complete.

        Args:
            dropped: events that are missing because the file could not be written fast enough.

        Raises:
            OSError: it cannot be written.
        """
        self._put(self._encoder.trailer(events=self.events, dropped=dropped))

    def publish(self) -> None:
        """Let it take its place; from here on what is in it can be read there.

        Raises:
            UsageError: something has come there meanwhile.
            OutputError: it cannot be moved there.
        """
        self._place.publish()

    def close(self) -> None:
        """Close the file as it is, at its place.

        Raises:
            UsageError, OutputError: see `publish`.
        """
        os.close(self._place.fd)
        self.publish()

    def discard_unpublished(self) -> None:
        """Leave nothing behind, unless it is at its place already."""
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
