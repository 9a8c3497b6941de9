# SPDX-License-Identifier: GPL-2.0-only
"""Export of traces to other tools: Parquet, and counters for the Perfetto UI."""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO, TextIO

from pyarrow import parquet

from shadow.errors import DamagedTraceError
from shadow.escape import valid
from shadow.memory_limit import MAX_MEMORY
from shadow.policy import POLICIES
from shadow.records import Facts
from shadow.replay.replay import Replay
from shadow.snapshot import Snapshot
from shadow.trace import TraceReader
from shadow.trace.encode import encode
from shadow.trace.layout import SCHEMA

__all__ = ("to_parquet", "to_perfetto")

_NS_PER_US = 1e3


def to_parquet(reader: TraceReader, file: BinaryIO) -> DamagedTraceError | None:
    """Write all rows of a trace, in the layout of `shadow.trace.layout`.

    Args:
        reader: the trace.
        file: the output.

    Returns:
        The damage that makes the output incomplete, if any.

    Raises:
        OSError: the file cannot be written.
    """
    pids: dict[int, int] = {}
    with parquet.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        try:
            for entry in reader:
                if isinstance(entry.record, Facts):
                    pids[entry.process] = entry.record.process.pid
                for batch in encode(entry.record, pids.get(entry.process, 0)):
                    writer.write_batch(batch)
        except DamagedTraceError as damage:
            return damage
    return None


def _counters(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    """The counters at one moment: Trace Event Format, phase C."""
    common = {"ph": "C", "pid": snapshot.process.pid, "ts": snapshot.window.end_ns / _NS_PER_US}
    outcomes = {policy.label: snapshot.policies[policy.label] for policy in POLICIES}
    pages = {label: outcome.pte_pages for label, outcome in outcomes.items()}
    empty = {label: outcome.empty for label, outcome in outcomes.items()}
    yield {"name": "PTE pages", "args": pages, **common}
    yield {"name": "empty PTE pages", "args": empty, **common}
    yield {"name": "entries", "args": {"entries": snapshot.now.refs}, **common}


def to_perfetto(
    reader: TraceReader, file: TextIO, interval: float, max_memory: int = MAX_MEMORY
) -> DamagedTraceError | None:
    """Write counter tracks over time, in the Trace Event Format that the Perfetto UI opens.

    Each process has a track for its entries, and per policy one for its PTE pages and one
    for the empty ones.

    Args:
        reader: the trace.
        file: the output, JSON.
        interval: seconds between two values.
        max_memory: limit on the memory of the shadows, bytes.

    Returns:
        The damage that makes the output incomplete, if any.

    Raises:
        OSError: the file cannot be written.
    """
    named: set[int] = set()
    separator = ""

    def put(event: dict[str, Any]) -> None:
        nonlocal separator
        file.write(separator + json.dumps(valid(event)))
        separator = ",\n"

    def write(_number: int, snapshot: Snapshot) -> None:
        process = snapshot.process
        if process.pid not in named:
            named.add(process.pid)
            name = {"name": process.comm}
            put({"name": "process_name", "ph": "M", "pid": process.pid, "args": name})
        for counter in _counters(snapshot):
            put(counter)

    file.write('{"displayTimeUnit":"ns","traceEvents":[\n')
    replay = Replay(reader, interval=interval, row=write, max_memory=max_memory)
    replay.run()
    for number, snapshot in enumerate(replay.snapshots(), 1):
        write(number, snapshot)
    file.write("]}\n")
    return replay.damage
