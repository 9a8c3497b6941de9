# SPDX-License-Identifier: GPL-2.0-only
"""Everything that is printed: results on stdout, messages on stderr, the log.

Nothing else in the package prints (ruff's T20 holds it), so no text from outside reaches a
terminal with anything in it but characters that show.
"""

import json
import logging
import sys
from typing import Any, TextIO

from shadow.escape import printable, valid

__all__ = ("complain", "dump", "log_to_stderr", "say")


def say(text: str = "", *, to: TextIO | None = None) -> None:
    """Print lines, on stdout unless told otherwise; everything but line ends is escaped."""
    file = sys.stdout if to is None else to
    lines = "\n".join(map(printable, text.split("\n")))
    encoding = getattr(file, "encoding", None) or "utf-8"
    print(lines.encode(encoding, "backslashreplace").decode(encoding), file=file, flush=True)


def complain(problem: object) -> None:
    """Print a message about the run itself: one line on stderr."""
    say(f"ptescope: {printable(str(problem))}", to=sys.stderr)


def dump(document: Any, *, to: TextIO | None = None) -> None:
    """Print a JSON document, on stdout unless told otherwise."""
    json.dump(valid(document), sys.stdout if to is None else to)
    say(to=to)


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def log_to_stderr(level: int) -> None:
    """Write the log to stderr, a line for each message."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger().setLevel(level)
