# SPDX-License-Identifier: GPL-2.0-only
"""Import of recordings of other tools (perf, strace, ftrace) as records of a trace.

`shadow.perf_import.said` has the types for the content of a line in any format. Each format
has its own file, and `read_recording` detects the format from the content.
"""

from collections.abc import Iterable
from itertools import chain, islice

from shadow.errors import UsageError
from shadow.perf_import.ftrace import Ftrace
from shadow.perf_import.page_tables import PageTables
from shadow.perf_import.perf_trace import PerfTrace
from shadow.perf_import.recording import Format, Recording
from shadow.perf_import.said import LONGEST_LINE
from shadow.perf_import.script import PerfLines
from shadow.perf_import.strace import Strace
from shadow.policy import Policy

__all__ = ("PageTables", "PerfScript", "Recording", "read_recording")

_LOOKED_AT = 2000
_FORMATS = (PerfLines, Ftrace, PerfTrace, Strace)
"""The strictest format first: it wins if two recognise equally many lines."""


class PerfScript(Recording):
    """The output of `perf script`; arguments and errors are those of `Recording`."""

    def __init__(self, lines: Iterable[str], policy: Policy | None = None) -> None:
        super().__init__(lines, PerfLines(), policy)


def _format_of(lines: list[str]) -> Format:
    """The format that recognises most of these lines.

    Raises:
        UsageError: no format recognises any line.
    """
    known = [
        (sum(form.recognises(line) for line in lines if len(line) <= LONGEST_LINE), form)
        for form in _FORMATS
    ]
    most, form = max(known, key=lambda pair: pair[0])
    if not most:
        raise UsageError(
            "The input is not the output of perf script, perf trace, strace, ftrace or trace-cmd "
            f"report. Make it with one of: {'; '.join(form.made_by for form in _FORMATS)}"
        )
    return form()


def read_recording(
    lines: Iterable[str], policy: Policy | None = None, page_tables: PageTables | None = None
) -> Recording:
    """Read a text in any of the formats.

    Args:
        lines: the lines of the text.
        policy: see `Recording`.
        page_tables: see `Recording`.

    Raises:
        UsageError: no format fits, or the text has no page fault and no system call.
    """
    lines = iter(lines)
    first = list(islice(lines, _LOOKED_AT))
    return Recording(chain(first, lines), _format_of(first), policy, page_tables)
