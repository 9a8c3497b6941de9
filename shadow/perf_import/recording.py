# SPDX-License-Identifier: GPL-2.0-only
"""What another tool printed, as records of a trace.

Faults are events as they are; a call becomes the event that the probes would have made of
it when it returned (`shadow.events.Kind`). The page tables and the VMAs of before are in
no such text. VMAs that were there before are inferred: wherever a page was touched that no
mmap in the text had mapped by then.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np

from shadow.call_rules import CallEvent, advised_vectors
from shadow.errors import UsageError
from shadow.events import EVENT, EventBatch, Kind
from shadow.geometry import PAGE, user_address_limit
from shadow.perf_import.calls import ARGUMENTS, entered, returned, sized
from shadow.perf_import.inferred import inferred, purges
from shadow.perf_import.said import (
    LONGEST_LINE,
    Called,
    Entered,
    Forked,
    Lost,
    OddLineError,
    Replaced,
    Returned,
    Said,
    Touched,
)
from shadow.perf_import.tasks import nobody, processes_of
from shadow.policy import Policy
from shadow.records import Events, Facts, Mappings, Record
from shadow.snapshot import Kernel, Process
from shadow.table import HugePages
from shadow.user_space import clipped, outside

__all__ = ("Format", "Recording")

_RECLAIMS_SINCE = (6, 14)
_MOST_LOST = 1 << 40
_MOST_NS = 1 << 62


class Format(Protocol):
    """What a tool prints: see `shadow.perf_import.strace.Strace` and its like."""

    @property
    def name(self) -> str:
        """Of the tool."""

    @property
    def made_by(self) -> str:
        """How to make such a text."""

    @property
    def limits(self) -> tuple[str, ...]:
        """What its text leaves out, in sentences."""

    @property
    def header(self) -> dict[str, str]:
        """What the text says of host and kernel."""

    def take(self, line: str) -> Iterator[Said]:
        """What a line says."""


@dataclass
class _RecordedProcess:
    """What the text has of one process."""

    comm: str = ""
    rows: list[tuple[int, ...]] = field(default_factory=list)
    calls: dict[int, tuple[str, list[int]]] = field(default_factory=dict)
    """Calls that were entered and have not returned, by thread."""


class Recording:
    """A text, read as a whole.

    Args:
        lines: its lines.
        form: what printed them.
        policy: when the kernel of that host frees PTE pages; None: by its release, where
            the text has it.

    Raises:
        UsageError: no line of it is a page fault or call of a process.
    """

    def __init__(self, lines: Iterable[str], form: Format, policy: Policy | None = None) -> None:
        self._form = form
        self._processes: dict[int, _RecordedProcess] = {}
        self.lines = self.strange = 0
        """Lines that say something, and lines that could not be understood."""
        self._untold = 0
        """process_madvise calls whose ranges the text does not have."""
        said = list(self._understood(lines))
        self._alone = nobody(said)
        process_of = processes_of(said, self._alone)
        for each in said:
            self._take(each, process_of)
        if not any(process.rows for process in self._processes.values()):
            raise UsageError(
                f"There is no page fault and no call in it, read as {form.name}. Make it with: "
                f"{form.made_by}"
            )
        self._policy = self._policy_by_release() if policy is None else policy

    def _understood(self, lines: Iterable[str]) -> Iterator[Said]:
        for line in lines:
            try:
                if len(line) > LONGEST_LINE:
                    raise OddLineError("a line that is too long")
                found = list(self._form.take(line.rstrip()))
            except OddLineError:
                self.strange += 1
                continue
            self.lines += bool(found)
            yield from found

    def _policy_by_release(self) -> Policy:
        """Of the release alone: 6.14 and later can free, if they were configured so."""
        release = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", self._form.header.get("os release", ""))
        since = release is not None and (int(release[1]), int(release[2])) >= _RECLAIMS_SINCE
        return Policy.PT_RECLAIM if since else Policy.NONE

    def _take(self, said: Said, process_of: dict[int, int]) -> None:
        tid = said.tid or self._alone
        pid = said.pid or process_of.get(tid, tid)
        process = self._processes.setdefault(pid, _RecordedProcess())
        if said.comm and (tid == pid or not process.comm):  # threads may have names of their own
            process.comm = said.comm
        try:
            events = self._events(process, tid, said)
        except OddLineError:
            self.strange += 1
            return
        for kind, address, length, aux in events:
            process.rows.append((said.time, address, length, pid, tid, kind, said.cpu, aux))

    def _events(self, process: _RecordedProcess, tid: int, said: Said) -> list[CallEvent]:
        match said.what:
            case Touched(address, error):
                return [(Kind.FAULT, address, 0, error)]
            case Entered(call, arguments):
                process.calls[tid] = call, sized(call, arguments)
                return entered(*process.calls[tid])
            case Returned(call, result):
                begun = process.calls.pop(tid, None)
                # Else it was entered before the recording began.
                return returned(*begun, result) if begun and begun[0] == call else []
            case Called("process_madvise", [], result):
                self._untold += result > 0
            case Called("process_madvise", [advice, *ranges], result):
                pairs = list(zip(ranges[::2], ranges[1::2], strict=True))
                return advised_vectors(advice, pairs, result)
            case Called(call, arguments, result) if call in ARGUMENTS:
                sound = sized(call, arguments)
                return entered(call, sound) + returned(call, sound, result)
            case Replaced():
                return [(Kind.EXEC, 0, 0, 0)]
            case Forked(child, thread):
                return [] if thread else [(Kind.FORK, child, 0, 0)]
            case Lost(count):
                return [(Kind.LOSS, 0, min(count, _MOST_LOST), 0)]
        return []

    def _facts(self, pid: int, process: _RecordedProcess, events: EventBatch, levels: int) -> Facts:
        header, wall_ns = self._form.header, 0
        with suppress(ValueError, OverflowError):
            when = datetime.strptime(header.get("captured on", ""), "%a %b %d %H:%M:%S %Y")
            wall_ns = int(when.timestamp()) * 10**9
        notes = [
            f"Imported from {self._form.name}: page tables and VMAs of before are not known; VMAs "
            "were inferred from what was touched, huge pages are taken to be off.",
            f"That this kernel frees by {self._policy.label} is taken from its release or from "
            "who imported it.",
            *self._form.limits,
            *purges(events),
        ]
        if self._untold:
            notes.append(f"{self._untold:,} calls of process_madvise are left out: no ranges.")
        if self.strange:
            notes.append(f"{self.strange:,} lines of {self._form.name} were not understood.")
        return Facts(
            process=Process(pid, process.comm or f"pid {pid}", 0, None, None),
            kernel=Kernel(
                header.get("os release", "unknown"), self._policy.label, levels, PAGE, "none"
            ),
            huge=HugePages(),
            host=header.get("hostname", ""),
            start_ns=int(events["time"].min()),
            wall_ns=wall_ns if 0 <= wall_ns < _MOST_NS else 0,
            end_ns=int(events["time"].max()),
            notes=tuple(notes),
        )

    def records(self) -> Iterator[tuple[int, int, Record]]:
        """All processes, one after the other.

        Yields:
            Number of the process from 1, its pid, a record.
        """
        number = 0
        for pid, process in self._processes.items():
            events, levels = _in_user_space(np.array(process.rows, EVENT))
            if not len(events):
                continue
            number += 1
            yield number, pid, self._facts(pid, process, events, levels)
            cuts = np.flatnonzero(events["kind"] == Kind.EXEC) + 1
            for part in np.split(events, cuts):
                if len(part):
                    yield number, pid, Mappings(int(part["time"][0]), vmas=inferred(part))
                    yield number, pid, Events(part)


def _in_user_space(events: EventBatch) -> tuple[EventBatch, int]:
    """The events, cut to the address space that there is, and the levels of its page tables.

    Where memory lay above what four levels map, there were five.
    """
    placed = events[np.isin(events["kind"], (Kind.FAULT, Kind.MAP))]
    high = outside(placed, user_address_limit(4)) & ~outside(placed, user_address_limit(5))
    levels = 5 if high.any() else 4
    return clipped(events, user_address_limit(levels)), levels
