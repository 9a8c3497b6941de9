# SPDX-License-Identifier: GPL-2.0-only
"""Handle standard streams that are closed, full, or without a reader.

The kernel reuses a closed descriptor, so a BPF map or a file could become standard output. And
Python reports a failed write only at exit. This module turns both into readable errors.
"""

import io
import os
import sys
from contextlib import suppress
from typing import IO

from shadow.errors import OutputError
from tracer.terminal import complain

__all__ = ("finish", "secure")

_STDIN, _STDOUT, _STDERR = 0, 1, 2


class _Stdout(io.TextIOWrapper):
    """Standard output with its own error for failed writes.

    If the reader has closed the pipe, it raises BrokenPipeError, which is no failure.
    """

    def write(self, text: str, /) -> int:
        """As TextIOWrapper does; raises OutputError."""
        try:
            return super().write(text)
        except OSError as error:
            raise _failed(error) from error

    def flush(self) -> None:
        """As TextIOWrapper does; raises OutputError."""
        try:
            super().flush()
        except OSError as error:
            raise _failed(error) from error


class _Stderr(io.TextIOWrapper):
    """Standard error that ignores failed writes, because there is no place to report them."""

    def write(self, text: str, /) -> int:
        """As TextIOWrapper does; ignores errors."""
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        """As TextIOWrapper does; ignores errors."""
        with suppress(OSError):
            super().flush()


def _failed(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return error
    return OutputError(f"Standard output cannot be written: {error.strerror}.")


def _open_what_is_closed() -> None:
    # A write to a descriptor that is open for reading fails, as one to a closed descriptor does.
    for number, mode in ((_STDIN, os.O_RDONLY), (_STDOUT, os.O_RDONLY), (_STDERR, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)  # open returns the lowest free descriptor: this one
            assert opened == number


def _wrapped(stream: IO[str] | None, number: int, kind: type[io.TextIOWrapper]) -> io.TextIOWrapper:
    """Wrap a stream; characters that the encoding lacks become escapes.

    The original stream stays usable, because textual writes to `sys.__stderr__`. The wrapper
    does not buffer, because Python does not flush it at exit.
    """
    if not isinstance(stream, io.TextIOWrapper):
        return kind(open(number, "wb", closefd=False), "utf-8", "backslashreplace")
    line_buffering, write_through = stream.line_buffering, stream.write_through
    stream.reconfigure(write_through=True)
    return kind(
        stream.buffer,
        stream.encoding,
        "backslashreplace",
        line_buffering=line_buffering,
        write_through=write_through,
    )


def secure() -> None:
    """Open closed streams, and turn failures of standard output into `OutputError`."""
    _open_what_is_closed()
    sys.stdout = _wrapped(sys.stdout, _STDOUT, _Stdout)
    sys.stderr = _wrapped(sys.stderr, _STDERR, _Stderr)
    if sys.stdin is None:
        sys.stdin = open(_STDIN, closefd=False)  # noqa: SIM115 - open to the end


def finish(status: int) -> int:
    """Flush standard output; returns the exit status, which a failure changes."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed the pipe
        _silence()
    except OutputError as error:
        _silence()
        if status == 0:
            complain(error)
            status = error.status
    return status


def _silence() -> None:
    """Discard buffered output, so that Python does not write it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
