# SPDX-License-Identifier: GPL-2.0-only
"""Converts the output of another tool to the records of a trace.

A page fault is an event as it is. A call becomes the event that the probes would have
produced at its return (`shadow.events.Kind`). The text has no earlier page tables and VMAs.
The import infers earlier VMAs from the touched pages that no mmap in the text had mapped
until then.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np

from shadow.call_rules import CallEvent, advised_vectors
from shadow.errors import UsageError
from shadow.events import EVENT, EventBatch, Kind
from shadow.perf_import.calls import ARGUMENTS, entered, returned, sized
from shadow.perf_import.inferred import inferred, purges
from shadow.perf_import.page_tables import PageTables, assumed
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
from shadow.pt_reclaim import release_reclaims
from shadow.records import Events, Facts, Mappings, Record
from shadow.snapshot import Kernel, Process
from shadow.table.state import HugePages
from shadow.user_space import clipped

__all__ = ("Format", "Recording")

_MOST_LOST = 1 << 40
_MOST_NS = 1 << 62


class Format(Protocol):
    """A parser for the output of a tool, such as `shadow.perf_import.strace.Strace`."""

    @property
    def name(self) -> str:
        """Name of the tool."""

    @property
    def made_by(self) -> str:
        """Command that produces the text."""

    @property
    def limits(self) -> tuple[str, ...]:
        """Sentences about what the text lacks."""

    @property
    def header(self) -> dict[str, str]:
        """Facts about host and kernel in the text."""

    def take(self, line: str) -> Iterator[Said]:
        """Parse a line."""


@dataclass
class _RecordedProcess:
    """The data of one process in the text."""

    comm: str = ""
    rows: list[tuple[int, ...]] = field(default_factory=list)
    calls: dict[int, tuple[str, list[int]]] = field(default_factory=dict)
    """Calls that have not returned yet, by thread."""


class Recording:
    """A text, read completely.

    Args:
        lines: the lines of the text.
        form: the parser of the format.
        policy: the policy of the recorded kernel; None: derive it from the kernel release, if
            the text has one.
        page_tables: those of the recorded kernel, as far as the user knows them.

    Raises:
        UsageError: the text has no page fault and no system call, or no such page tables exist.
    """

    def __init__(
        self,
        lines: Iterable[str],
        form: Format,
        policy: Policy | None = None,
        page_tables: PageTables | None = None,
    ) -> None:
        self._form = form
        self._processes: dict[int, _RecordedProcess] = {}
        self.lines = self.strange = 0
        """Lines with content, and lines that cannot be parsed."""
        self._without_ranges = 0
        """process_madvise calls whose ranges are not in the text."""
        said = list(self._understood(lines))
        self._assumed = assumed(form.header, said, page_tables or PageTables())
        self._alone = nobody(said)
        process_of = processes_of(said, self._alone)
        for each in said:
            self._take(each, process_of)
        if not any(process.rows for process in self._processes.values()):
            raise UsageError(
                f"The input has no page fault and no system call, read as {form.name}. Make it "
                f"with: {form.made_by}"
            )
        self._batches = {
            pid: np.array(process.rows, EVENT) for pid, process in self._processes.items()
        }
        self._geometry = self._assumed.fitting(list(self._batches.values()))
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
        """The policy by the release alone: newer ones can free, if configured to."""
        release = self._form.header.get("os release", "")
        can = release_reclaims(release, self._geometry.arch)
        return Policy.PT_RECLAIM if can else Policy.NONE

    def _take(self, said: Said, process_of: dict[int, int]) -> None:
        tid = said.tid or self._alone
        pid = said.pid or process_of.get(tid, tid)
        process = self._processes.setdefault(pid, _RecordedProcess())
        if said.comm and (tid == pid or not process.comm):  # threads may have different names
            process.comm = said.comm
        try:
            events = self._events(process, tid, said)
        except OddLineError:
            self.strange += 1
            return
        for kind, address, length, aux in events:
            process.rows.append((said.time, address, length, pid, tid, kind, said.cpu, aux))

    def _events(self, process: _RecordedProcess, tid: int, said: Said) -> list[CallEvent]:
        page = self._assumed.page
        match said.what:
            case Touched(address, error):
                return [(Kind.FAULT, address, 0, error)]
            case Entered(call, arguments):
                process.calls[tid] = call, sized(call, arguments)
                return entered(*process.calls[tid], page)
            case Returned(call, result):
                begun = process.calls.pop(tid, None)
                # Otherwise the call began before the recording.
                return returned(*begun, result, page) if begun and begun[0] == call else []
            case Called("process_madvise", [], result):
                self._without_ranges += result > 0
            case Called("process_madvise", [advice, *ranges], result):
                pairs = list(zip(ranges[::2], ranges[1::2], strict=True))
                return advised_vectors(advice, pairs, result, page)
            case Called(call, arguments, result) if call in ARGUMENTS:
                sound = sized(call, arguments)
                return entered(call, sound, page) + returned(call, sound, result, page)
            case Replaced():
                return [(Kind.EXEC, 0, 0, 0)]
            case Forked(child, thread):
                return [] if thread else [(Kind.FORK, child, 0, 0)]
            case Lost(count):
                return [(Kind.LOSS, 0, min(count, _MOST_LOST), 0)]
        return []

    def _facts(self, pid: int, comm: str, events: EventBatch) -> Facts:
        header, geometry, wall_ns = self._form.header, self._geometry, 0
        with suppress(ValueError, OverflowError):
            when = datetime.strptime(header.get("captured on", ""), "%a %b %d %H:%M:%S %Y")
            wall_ns = int(when.timestamp()) * 10**9
        notes = [
            f"Imported from {self._form.name}: earlier page tables and VMAs are unknown; VMAs are "
            "inferred from touched pages, and huge pages are assumed to be off.",
            f"The policy of this kernel, {self._policy.label}, comes from its release or from an "
            "option of the import.",
            *filter(None, [self._assumed.note(geometry)]),
            *self._form.limits,
            *purges(events, geometry),
        ]
        if self._without_ranges:
            notes.append(
                f"{self._without_ranges:,} calls of process_madvise are omitted: the text lacks "
                "their ranges."
            )
        if self.strange:
            notes.append(f"{self.strange:,} lines of {self._form.name} could not be parsed.")
        return Facts(
            process=Process(pid, comm or f"pid {pid}", 0, None, None),
            kernel=Kernel(
                header.get("os release", "unknown"),
                self._policy.label,
                geometry.levels,
                geometry.page,
                "none",
                arch=geometry.arch,
                user_address_bits=geometry.user_address_bits,
            ),
            huge=HugePages(),
            host=header.get("hostname", ""),
            start_ns=int(events["time"].min()),
            wall_ns=wall_ns if 0 <= wall_ns < _MOST_NS else 0,
            end_ns=int(events["time"].max()),
            notes=tuple(notes),
        )

    def records(self) -> Iterator[tuple[int, int, Record]]:
        """The records of all processes, one process after the other.

        Yields:
            Number of the process from 1, its pid, and a record.
        """
        number = 0
        for pid, process in self._processes.items():
            events = clipped(self._batches[pid], self._geometry.user_bytes)
            if not len(events):
                continue
            number += 1
            yield number, pid, self._facts(pid, process.comm, events)
            cuts = np.flatnonzero(events["kind"] == Kind.EXEC) + 1
            for part in np.split(events, cuts):
                if len(part):
                    yield (
                        number,
                        pid,
                        Mappings(int(part["time"][0]), vmas=inferred(part, self._geometry.page)),
                    )
                    yield number, pid, Events(part)
