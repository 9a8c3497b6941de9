# SPDX-License-Identifier: GPL-2.0-only
"""Text on stdout, messages on stderr, and the log.

No other module prints text (ruff's T20 checks that), so text from outside reaches a
terminal only as printable characters.
"""

import logging
import sys
from typing import Any, TextIO

from shadow.escape import printable

__all__ = ("complain", "log_to_stderr", "say")


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
