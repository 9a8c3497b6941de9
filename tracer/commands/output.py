# SPDX-License-Identifier: GPL-2.0-only
"""The JSON document of a command, printed in one place, or the text that stands for it."""

import json
import sys
from collections.abc import Callable
from typing import Any, TextIO

from shadow.escape import valid
from tracer.terminal import say

__all__ = ("print_json", "print_report")


def print_json(document: dict[str, Any], *, to: TextIO | None = None) -> None:
    """Print a JSON document and a line end.

    Args:
        document: what `shadow.snapshot.document` makes, and what a command adds to it.
        to: where; None: stdout.
    """
    json.dump(valid(document), sys.stdout if to is None else to)
    say(to=to)


def print_report(
    document: dict[str, Any],
    text: Callable[[], str],
    *,
    as_json: bool,
    to: TextIO | None = None,
) -> None:
    """Print the document as JSON, or the text that says the same.

    Args:
        document: for `--json`.
        text: renders the text; it is called only where text is wanted.
        as_json: whether `--json` was given.
        to: where; None: stdout.
    """
    if as_json:
        print_json(document, to=to)
    else:
        say(text(), to=to)
