# SPDX-License-Identifier: GPL-2.0-only
"""Standard input, output and error as a command may find them: closed, full, or without reader.

A closed descriptor is the next one that is given out, so a map or a file could become
standard output; and what cannot be written shows at the latest possible moment, when
Python ends. Both are made errors that a user can read.
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
    """Standard output whose failures are told from those of files.

    A reader that went away raises BrokenPipeError, which is no failure.
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
    """Standard error: what cannot be said there can be said nowhere."""

    def write(self, text: str, /) -> int:
        """As TextIOWrapper does, or nothing."""
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        """As TextIOWrapper does, or nothing."""
        with suppress(OSError):
            super().flush()


def _failed(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return error
    return OutputError(f"Standard output cannot be written: {error.strerror}.")


def _open_what_is_closed() -> None:
    # Writing to a descriptor that is open for reading fails as writing to a closed one does.
    for number, mode in ((_STDIN, os.O_RDONLY), (_STDOUT, os.O_RDONLY), (_STDERR, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)  # the lowest that is free: this one
            assert opened == number


def _wrapped(stream: IO[str] | None, number: int, kind: type[io.TextIOWrapper]) -> io.TextIOWrapper:
    """The stream as this kind; what a terminal has no letter for becomes an escape.

    The stream itself stays usable: textual writes to `sys.__stderr__`. It keeps nothing back,
    because Python does not flush it at the end.
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
    """Open what is closed, and make failures of standard output errors of ours."""
    _open_what_is_closed()
    sys.stdout = _wrapped(sys.stdout, _STDOUT, _Stdout)
    sys.stderr = _wrapped(sys.stderr, _STDERR, _Stderr)
    if sys.stdin is None:
        sys.stdin = open(_STDIN, closefd=False)  # noqa: SIM115 - open to the end


def finish(status: int) -> int:
    """Write what waits; returns the exit status, which a failure changes."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # its reader has seen enough
        _silence()
    except OutputError as error:
        _silence()
        if status == 0:
            complain(error)
            status = error.status
    return status


def _silence() -> None:
    """What waits goes nowhere, so that Python does not try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
