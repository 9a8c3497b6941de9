# SPDX-License-Identifier: GPL-2.0-only
"""Traces with valid seals and content that no recorder writes."""

import io
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from shadow.events import EVENT
from shadow.perf_import.recording import Recording
from shadow.records import Record
from shadow.replay import Replay
from shadow.trace import TraceReader
from shadow.trace.encode import encode
from shadow.trace.file import Encoder
from shadow.trace.layout import COLUMNS, SCHEMA, Row, name_of
from tests.shadow.trace.traces import facts

__all__ = ("Crafted", "plain_facts", "replayed")


def plain_facts() -> dict[str, Any]:
    """The first facts of a process, as JSON data."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(facts())))
    return found


class Crafted:
    """A trace in memory; sequence numbers and checksums are right."""

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._data = bytes(self._encoder.schema())

    def put(self, batch: pa.RecordBatch, record: Any, process: Any = 1, more: Any = 0) -> "Crafted":
        """Any batch under any seal."""
        self._data += self._encoder.batch(batch, record=record, process=process, more=more)
        return self

    def add(self, record: Record, process: int = 1) -> "Crafted":
        """A record in the form that a recorder writes."""
        batches = list(encode(record, 7))
        for left, batch in zip(reversed(range(len(batches))), batches, strict=True):
            self.put(batch, name_of(record), process, left)
        return self

    def facts(self, plain: Any, process: int = 1) -> "Crafted":
        """Facts with any content."""
        return self.rows(Row.FACTS, [(0, 0, 0, 0)], [json.dumps(plain).encode()], "facts", process)

    def events(self, rows: Iterable[tuple[int, ...]], process: int = 1) -> "Crafted":
        """Events: kind, address, length, aux, a microsecond apart."""
        table = np.array(
            [
                (1000 * number, address, length, 7, 7, kind, 0, aux)
                for number, (kind, address, length, aux) in enumerate(rows, 1)
            ],
            EVENT,
        )
        return self.put(_batch(table), "events", process)

    def rows(
        self,
        kind: int,
        rows: Iterable[tuple[int, int, int, int]],
        payloads: list[bytes] | None,
        record: str,
        process: int = 1,
        more: int = 0,
    ) -> "Crafted":
        """Rows of one kind: time, address, length, aux."""
        table = np.array([(t, a, n, 7, 0, kind, 0, x) for t, a, n, x in rows], EVENT)
        return self.put(_batch(table, payloads), record, process, more)

    def whole(self) -> bytes:
        """The trace, with its trailer."""
        return self._data + bytes(self._encoder.trailer(events=0, dropped=0))


def _batch(table: np.ndarray[Any, Any], payloads: list[bytes] | None = None) -> pa.RecordBatch:
    columns = [pa.array(np.ascontiguousarray(table[name])) for name in COLUMNS]
    payload = pa.array(payloads, pa.binary()) if payloads else pa.nulls(len(table), pa.binary())
    return pa.record_batch([*columns, payload], schema=SCHEMA)


def replayed(recording: Recording) -> Replay:
    """An imported recording, written as a trace and replayed; only memory may be its damage."""
    crafted = Crafted()
    for number, _, record in recording.records():
        crafted.add(record, number)
    with TraceReader(io.BytesIO(crafted.whole()), "it") as reader:
        replay = Replay(reader)
        replay.run()
    assert replay.damage is None or "--max-memory" in str(replay.damage)
    return replay
