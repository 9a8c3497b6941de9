# SPDX-License-Identifier: GPL-2.0-only
"""The time that a trace covers, and how many processes it has, without a replay."""

from dataclasses import dataclass

from shadow.errors import DamagedTraceError
from shadow.records import Events, Facts, Record
from shadow.trace import TraceReader
from shadow.units import NS

__all__ = ("Span", "span_of")


@dataclass
class Span:
    """The extent of a trace.

    Attributes:
        start_ns: the earliest start of a window, CLOCK_MONOTONIC.
        end_ns: the latest time of a record.
        processes: the number of processes.
    """

    start_ns: int = 0
    end_ns: int = 0
    processes: int = 0

    @property
    def seconds(self) -> float:
        """The length of the trace."""
        return max(self.end_ns - self.start_ns, 0) / NS


def _latest(record: Record) -> int:
    if isinstance(record, Events):
        return int(record.batch["time"].max()) if len(record.batch) else 0
    if isinstance(record, Facts):
        return record.end_ns or record.told_ns or record.start_ns
    return record.time


def span_of(reader: TraceReader) -> Span:
    """The span of the intact part of a trace; reads it to its end."""
    span, seen = Span(), set[int]()
    try:
        for entry in reader:
            record = entry.record
            if isinstance(record, Facts) and entry.process not in seen:
                seen.add(entry.process)
                start = record.start_ns
                span.start_ns = min(span.start_ns, start) if span.processes else start
                span.processes += 1
            span.end_ns = max(span.end_ns, _latest(record))
    except DamagedTraceError:
        pass  # the replay reports it
    return span
