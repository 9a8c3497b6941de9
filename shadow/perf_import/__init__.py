# SPDX-License-Identifier: GPL-2.0-only
"""Other people's recordings, as records of a trace: perf, strace, ftrace.

`shadow.perf_import.said` is what a line of any of them can say; there is a file for each format,
and `read_recording` tells them by their content.
"""

from collections.abc import Iterable
from itertools import chain, islice

from shadow.errors import UsageError
from shadow.perf_import.ftrace import Ftrace
from shadow.perf_import.perf_trace import PerfTrace
from shadow.perf_import.recording import Format, Recording
from shadow.perf_import.said import LONGEST_LINE
from shadow.perf_import.script import PerfLines
from shadow.perf_import.strace import Strace
from shadow.policy import Policy

__all__ = ("PerfScript", "Recording", "read_recording")

_LOOKED_AT = 2000
_FORMATS = (PerfLines, Ftrace, PerfTrace, Strace)
"""The strictest first: it wins where two know as many lines."""


class PerfScript(Recording):
    """The output of `perf script`; arguments and errors as those of `Recording`."""

    def __init__(self, lines: Iterable[str], policy: Policy | None = None) -> None:
        super().__init__(lines, PerfLines(), policy)


def _format_of(lines: list[str]) -> Format:
    """The format that knows most of these lines.

    Raises:
        UsageError: none knows any.
    """
    known = [
        (sum(form.recognises(line) for line in lines if len(line) <= LONGEST_LINE), form)
        for form in _FORMATS
    ]
    most, form = max(known, key=lambda pair: pair[0])
    if not most:
        raise UsageError(
            "This is no text of perf script, perf trace, strace, ftrace or trace-cmd report. Make "
            f"one with: {'; '.join(form.made_by for form in _FORMATS)}"
        )
    return form()


def read_recording(lines: Iterable[str], policy: Policy | None = None) -> Recording:
    """A text of any of the formats.

    Args:
        lines: its lines.
        policy: see `Recording`.

    Raises:
        UsageError: it is of none, or has no page fault and no call.
    """
    lines = iter(lines)
    first = list(islice(lines, _LOOKED_AT))
    return Recording(chain(first, lines), _format_of(first), policy)
