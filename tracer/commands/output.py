# SPDX-License-Identifier: GPL-2.0-only
"""Prints the report of a command, as JSON or as text."""

import json
import sys
from collections.abc import Callable
from typing import Any, TextIO

from shadow.escape import valid
from tracer.terminal import say

__all__ = ("print_json", "print_report")


def print_json(document: dict[str, Any], *, to: TextIO | None = None) -> None:
    """Print a JSON document and a newline.

    Args:
        document: the result of `shadow.snapshot.document`, with additions of the command.
        to: the file to print to; None: stdout.
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
    """Print a report, either as JSON or as text.

    Args:
        document: the report for `--json`.
        text: renders the text; called only without `--json`.
        as_json: whether `--json` was given.
        to: the file to print to; None: stdout.
    """
    if as_json:
        print_json(document, to=to)
    else:
        say(text(), to=to)
