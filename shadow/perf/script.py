"""Other people's recordings: the output of `perf script`, as records of a trace.

perf tells page faults and system calls, and neither the page tables nor the VMAs
that were there before. Faults are events as they are; a call becomes the event
that the probes would have made of it when it returned (`shadow.events.Kind`). VMAs
that were there before are inferred: wherever a page was touched that no mmap in
the recording had mapped by then.

A line has to have process and thread, CPU, time, event and its fields:
perf script --ns --header --show-lost-events -F comm,pid,tid,cpu,time,event,trace.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt

from shadow.errors import UsageError
from shadow.events import EVENT, EventBatch, Kind
from shadow.geometry import PAGE
from shadow.perf.calls import Event, entered, returned
from shadow.policy import Policy
from shadow.records import Events, Facts, Mappings, Record
from shadow.snapshot import Kernel, Process
from shadow.table import VMA, HugePages, VmaFlag

__all__ = ("PerfScript",)

_LINE = re.compile(
    r"\s*(?P<comm>.*?)\s+(?P<pid>-?\d+)/(?P<tid>-?\d+)\s+\[(?P<cpu>\d+)\]\s+"
    r"(?P<seconds>\d+)\.(?P<fraction>\d+):\s+(?P<event>\w+(:\w+)?):?\s(?P<fields>.*)"
)
_FAULT = re.compile(r"address=(0x[0-9a-f]+) .*error_code=(0x[0-9a-f]+)")
_ARGUMENT = re.compile(r"\w+: (0x[0-9a-f]+|-?\d+)")
_LOST = re.compile(r"lost\s+(\d+)")
_HEADER = re.compile(r"# (hostname|os release|captured on)\s*: (.*)")
_KERNEL_FAULT = 1 << 31
_RECLAIMS_SINCE = (6, 14)
_RWX = VmaFlag.READ | VmaFlag.WRITE | VmaFlag.EXEC | VmaFlag.ACCOUNT


def _inferred(events: EventBatch) -> npt.NDArray[np.void]:
    """(n,) of `VMA`: where pages were touched that no MAP among these events had mapped.

    Readable, writable, anonymous: nothing is known of them but that they were there.
    """
    faults = events["kind"] == Kind.FAULT
    touched = events["address"][faults].astype(np.int64) & -PAGE
    pages, first = np.unique(touched, return_index=True)
    when = np.flatnonzero(faults)[first]
    known = np.zeros(len(pages), np.bool_)
    for at in np.flatnonzero(events["kind"] == Kind.MAP).tolist():
        start, length = int(events["address"][at]), int(events["length"][at])
        low, high = np.searchsorted(pages, (start, start + length))
        known[low:high] |= when[low:high] > at
    pages = pages[~known]
    begins = np.flatnonzero(np.diff(pages, prepend=-1) != PAGE)
    ends = np.append(begins[1:], len(pages)) - 1
    vmas = np.zeros(len(begins), VMA)
    if len(pages):
        vmas["start"], vmas["end"] = pages[begins], pages[ends] + PAGE
    vmas["flags"], vmas["pgoff"] = _RWX, vmas["start"] // PAGE
    return vmas


@dataclass
class _Process:
    """What the recording has of one process."""

    comm: str
    rows: list[tuple[int, ...]] = field(default_factory=list)
    calls: dict[int, tuple[str, list[int]]] = field(default_factory=dict)
    """Calls that were entered and have not returned, by thread."""


class PerfScript:
    """The output of `perf script`, read as a whole.

    Args:
        lines: its lines.
        policy: when the kernel of that host frees PTE pages; None: by its release, from
            the header.

    Raises:
        UsageError: no line of it is a page fault or call with process and thread.
    """

    def __init__(self, lines: Iterable[str], policy: Policy | None = None) -> None:
        self._header: dict[str, str] = {}
        self._processes: dict[int, _Process] = {}
        self.lines = self.strange = 0
        """Lines with an event, and lines that could not be understood."""
        for line in lines:
            if line.startswith("#"):
                header = _HEADER.match(line)
                if header:
                    self._header[header[1]] = header[2].strip()
            elif line.strip():
                self._take(line)
        if not any(process.rows for process in self._processes.values()):
            raise UsageError(
                "There is no page fault and no call in it. Make it with: perf script --ns "
                "--header --show-lost-events -F comm,pid,tid,cpu,time,event,trace"
            )
        self._policy = self._policy_by_release() if policy is None else policy

    def _policy_by_release(self) -> Policy:
        """Of the release alone: 6.14 and later can free, if they were configured so."""
        release = re.match(r"(\d+)\.(\d+)", self._header.get("os release", ""))
        since = release is not None and (int(release[1]), int(release[2])) >= _RECLAIMS_SINCE
        return Policy.PT_RECLAIM if since else Policy.NONE

    def _take(self, line: str) -> None:
        match = _LINE.match(line)
        if match is None:
            self.strange += 1
            return
        self.lines += 1
        pid, tid = int(match["pid"]), int(match["tid"])
        time = int(match["seconds"]) * 10**9 + int(match["fraction"].ljust(9, "0"))
        process = self._processes.setdefault(pid, _Process(match["comm"]))
        if tid == pid:  # threads may have names of their own
            process.comm = match["comm"]
        event = self._event(process, tid, match["event"], match["fields"])
        if event is not None:
            kind, address, length, aux = event
            process.rows.append((time, address, length, pid, tid, kind, int(match["cpu"]), aux))

    def _event(self, process: _Process, tid: int, name: str, fields: str) -> Event | None:
        if name.startswith("exceptions:page_fault_"):
            fault = _FAULT.search(fields)
            if fault is None:
                self.strange += 1
                return None
            kernel = _KERNEL_FAULT if name.endswith("kernel") else 0
            address = int(fault[1], 16)
            known = address < 1 << 63
            return (Kind.FAULT, address, 0, int(fault[2], 16) | kernel) if known else None
        if name.startswith("syscalls:sys_enter_"):
            call = name.removeprefix("syscalls:sys_enter_")
            arguments = [int(text, 0) for text in _ARGUMENT.findall(fields)]
            process.calls[tid] = call, arguments
            return entered(call, arguments)
        if name.startswith("syscalls:sys_exit_"):
            call, arguments = process.calls.pop(tid, ("", []))
            if call != name.removeprefix("syscalls:sys_exit_"):
                return None  # it was entered before the recording began
            result = int(fields, 0)
            return returned(call, arguments, result - (1 << 64) * (result >= 1 << 63))
        if name == "sched:sched_process_exec":
            return Kind.EXEC, 0, 0, 0
        lost = _LOST.search(fields) if name == "PERF_RECORD_LOST" else None
        return (Kind.LOSS, 0, int(lost[1]), 0) if lost else None

    def _facts(self, pid: int, process: _Process, events: EventBatch) -> Facts:
        wall_ns = 0
        with suppress(ValueError):
            when = datetime.strptime(self._header.get("captured on", ""), "%a %b %d %H:%M:%S %Y")
            wall_ns = int(when.timestamp()) * 10**9
        begin, end = int(events["time"].min()), int(events["time"].max())
        notes = [
            "Imported from perf script: page tables and VMAs of before are not known; VMAs were "
            "inferred from what was touched, huge pages are taken to be off.",
            f"That this kernel frees by {self._policy.label} is taken from its release or from "
            "who imported it.",
        ]
        if self.strange:
            notes.append(f"{self.strange:,} lines of perf script were not understood.")
        release = self._header.get("os release", "unknown")
        return Facts(
            process=Process(pid, process.comm, 0, None, None),
            kernel=Kernel(release, self._policy.label, 4, PAGE, "none"),
            huge=HugePages(),
            host=self._header.get("hostname", ""),
            start_ns=begin,
            wall_ns=wall_ns,
            end_ns=end,
            notes=tuple(notes),
        )

    def records(self) -> Iterator[tuple[int, int, Record]]:
        """All processes, one after the other.

        Yields:
            Number of the process from 1, its pid, a record.
        """
        with_rows = {pid: p for pid, p in self._processes.items() if p.rows}
        for number, (pid, process) in enumerate(with_rows.items(), 1):
            events = np.array(process.rows, EVENT)
            yield number, pid, self._facts(pid, process, events)
            cuts = np.flatnonzero(events["kind"] == Kind.EXEC) + 1
            for part in np.split(events, cuts):
                if len(part):
                    yield number, pid, Mappings(int(part["time"][0]), vmas=_inferred(part))
                    yield number, pid, Events(part)
