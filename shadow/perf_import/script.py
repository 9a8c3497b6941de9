# SPDX-License-Identifier: GPL-2.0-only
"""Parser for the output of `perf script`.

Each line must have process and thread, CPU, time, event and fields:
perf script --ns --header --show-lost-events -F comm,pid,tid,cpu,time,event,trace. For the software
event page-faults, `addr` follows in the list of fields.
"""

import re
from collections.abc import Iterator

from shadow.perf_import.numbers import nanoseconds
from shadow.perf_import.said import Lost, OddLineError, Said, Touched, What, line_of
from shadow.perf_import.tracepoints import of_tracepoint

__all__ = ("PerfLines",)

_LINE = re.compile(
    r"(?a)\s*(?P<comm>.{0,64}?)\s+(?P<pid>-?\d{1,8})/(?P<tid>-?\d{1,8})\s+\[(?P<cpu>\d{1,5})\]\s+"
    r"(?P<seconds>\d{1,12}\.\d{1,30}):\s+(?P<event>[\w-]{1,80}(:\w{1,80})?):?(?:\s(?P<fields>.*))?$"
)
_LOST = re.compile(r"(?a)lost\s+(\d{1,18})")
_HEADER = re.compile(r"(?a)# (hostname|os release|arch|captured on)\s*: (.{0,256})")
_FAULTS = re.compile(r"(?a)page-faults(:[a-zA-Z]{1,8})?")
"""The software event, which every architecture has; its address is behind it."""
_ADDRESS = re.compile(r"(?a)\s*([0-9a-f]{1,16})(?=\s|$)")
_KERNEL_ADDRESSES = 1 << 63
_READ = 4
"""The event does not say whether the thread wrote; the probe counts it as a read too."""
_GROUPS = ("exceptions", "syscalls", "sched", "task")


def _touched(fields: str) -> Iterator[What]:
    """The page fault of the software event.

    Raises:
        OddLineError: perf did not record addresses.
    """
    address = _ADDRESS.match(fields)
    if address is None:
        raise OddLineError("a page fault without its address")
    if int(address[1], 16) < _KERNEL_ADDRESSES:
        yield Touched(int(address[1], 16), _READ)


class PerfLines:
    """Reads lines of perf script.

    Attributes:
        name: name of the tool.
        made_by: command that produces the text.
        limits: sentences about what the text lacks.
        header: facts about host and kernel in the text.
    """

    name = "perf script"
    made_by = "perf script --ns --header --show-lost-events -F comm,pid,tid,cpu,time,event,trace"
    limits: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.header: dict[str, str] = {}

    @staticmethod
    def recognises(line: str) -> bool:
        """Whether a line looks like output of perf script."""
        return _LINE.match(line) is not None

    def take(self, line: str) -> Iterator[Said]:
        """Parse a line.

        Raises:
            OddLineError: the line cannot be parsed.
        """
        if line.startswith("#"):
            header = _HEADER.match(line)
            if header:
                self.header[header[1]] = header[2].strip()
            return
        if not line.strip():
            return
        match = _LINE.match(line.rstrip())
        if match is None:
            raise OddLineError("not a line of perf script")
        time, pid, tid = nanoseconds(match["seconds"]), int(match["pid"]), int(match["tid"])
        if pid <= 0 or tid <= 0:
            return  # the idle task, or a task without user space
        fields = match["fields"] or ""
        group, _, name = match["event"].rpartition(":")
        whats: Iterator[What] = iter(())
        if name == "PERF_RECORD_LOST":
            lost = _LOST.search(fields)
            whats = iter([Lost(int(lost[1]))] if lost else [])
        elif _FAULTS.fullmatch(match["event"]):
            whats = _touched(fields)
        elif group in _GROUPS:
            whats = of_tracepoint(name, fields)
        for what in whats:
            yield line_of(Said(time, pid, tid, int(match["cpu"]), match["comm"], what))
