# SPDX-License-Identifier: GPL-2.0-only
"""Parser for the output of ftrace (tracefs: trace, trace_pipe) and trace-cmd report.

A line has the form `COMM-TID [( TGID)] [CPU] [FLAGS] SECONDS: EVENT: FIELDS`. ftrace itself
prints a system call as `sys_CALL(name: value, ...)` or `sys_CALL -> RESULT`.
"""

import re
from collections.abc import Iterator

from shadow.perf_import.numbers import nanoseconds
from shadow.perf_import.said import Lost, OddLineError, Said, line_of
from shadow.perf_import.tracepoints import of_tracepoint

__all__ = ("Ftrace",)

_LINE = re.compile(
    r"(?a)\s*(?P<comm>\S.{0,63}?)-(?P<tid>\d{1,8})\s+(?:\(\s*(?P<tgid>\d{1,8}|-+)\)\s+)?"
    r"(?:\[(?P<cpu>\d{1,5})\]|(?P<latency>\d{1,5})[.dDnNpPhHsSbZz0-9]{2,8})\s+(?:[^\s:]{1,8}\s+)?"
    r"(?P<seconds>\d{1,12}\.\d{1,9}): (?P<event>.*)"
)
_NAMED = re.compile(r"(?a)(?P<name>\w{1,60}):\s*(?P<fields>.*)")
_ENTERED = re.compile(r"(?a)sys_(?P<call>\w{1,40})\((?P<fields>.*)\)\s*")
_RETURNED = re.compile(r"(?a)sys_(?P<call>\w{1,40}) -> (?P<result>\S{1,20})\s*")
_OTHER_LINES = re.compile(r"(?a)#.*|cpus=\d+|version = .*|\s*|CPU ?\d+ is empty|trace-cmd: .*")
_LOST = re.compile(
    r"(?a)CPU:\d+ \[LOST (\d{1,18}) EVENTS\]|CPU:\d+ \[(?:EVENTS DROPPED|LOST EVENTS)\]|"
    r".*\[(\d{1,18}) EVENTS DROPPED\].*"
)


class Ftrace:
    """Reads lines of ftrace and of trace-cmd report.

    Attributes:
        name: name of the tool.
        made_by: command that produces the text.
        limits: sentences about what the text lacks.
        header: facts about host and kernel: none.
    """

    name = "ftrace"
    made_by = "cat /sys/kernel/tracing/trace, or trace-cmd report"
    limits = (
        "Only the TGID (options/record-tgid) or task:task_newtask identifies threads: without "
        "them, each thread counts as a process.",
    )

    def __init__(self) -> None:
        self.header: dict[str, str] = {}
        self._now = 0

    @staticmethod
    def recognises(line: str) -> bool:
        """Whether a line looks like output of ftrace."""
        return _LINE.match(line) is not None

    def take(self, line: str) -> Iterator[Said]:
        """Parse a line.

        Raises:
            OddLineError: the line cannot be parsed.
        """
        line = line.rstrip()
        lost = _LOST.fullmatch(line)
        if lost:
            yield line_of(Said(self._now, None, 0, 0, "", Lost(int(lost[1] or lost[2] or 1))))
            return
        if _OTHER_LINES.fullmatch(line):
            return
        match = _LINE.match(line)
        if match is None:
            raise OddLineError("not a line of ftrace")
        self._now = nanoseconds(match["seconds"])
        tgid = int(match["tgid"]) if match["tgid"] and match["tgid"].isdigit() else None
        cpu = int(match["cpu"] or match["latency"])
        for what in of_tracepoint(*self._event(match["event"])):
            yield line_of(Said(self._now, tgid, int(match["tid"]), cpu, match["comm"], what))

    def _event(self, text: str) -> tuple[str, str]:
        entered = _ENTERED.fullmatch(text)
        if entered:
            return f"sys_enter_{entered['call']}", entered["fields"]
        returned = _RETURNED.fullmatch(text)
        if returned:
            return f"sys_exit_{returned['call']}", returned["result"]
        named = _NAMED.fullmatch(text)
        if named is None:
            raise OddLineError("no event")
        return named["name"], named["fields"]
