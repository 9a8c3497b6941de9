# SPDX-License-Identifier: GPL-2.0-only
"""Text on stdout, messages on stderr, and the log.

No other module prints text (ruff's T20 checks that), so text from outside reaches a
terminal only as printable characters.
"""

import logging
import sys
from pathlib import Path
from typing import Any, TextIO

from shadow.errors import UsageError
from shadow.escape import printable

__all__ = ("complain", "log_to", "log_to_stderr", "say")


def say(text: str = "", *, to: TextIO | None = None) -> None:
    """Print lines, on stdout by default; escapes all control characters but line ends."""
    file = sys.stdout if to is None else to
    lines = "\n".join(map(printable, text.split("\n")))
    encoding = getattr(file, "encoding", None) or "utf-8"
    print(lines.encode(encoding, "backslashreplace").decode(encoding), file=file, flush=True)


def complain(problem: object) -> None:
    """Print a message about the run on stderr, as one line."""
    say(f"ptescope: {printable(str(problem))}", to=sys.stderr)


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def log_to_stderr(level: int) -> None:
    """Write the log to stderr, one line per message."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger().setLevel(level)


def log_to(file: Path | None, level: int) -> None:
    """Write the log to a file, with times; if `file` is None, to stderr.

    The file is opened again after it was moved, as logrotate does.

    Raises:
        UsageError: the file cannot be written.
    """
    log_to_stderr(level)
    if file is None:
        return
    from logging.handlers import WatchedFileHandler  # slow to import

    logging.raiseExceptions = False  # a full disk must not print tracebacks to stderr
    try:
        handler = WatchedFileHandler(file, errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"The log cannot be written to {file}: {error.strerror}.") from error
    handler.setFormatter(_Formatter("%(asctime)s %(message)s"))
    logging.getLogger().handlers[:] = [handler]
