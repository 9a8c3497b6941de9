# SPDX-License-Identifier: GPL-2.0-only
"""The trace file: a stream of records, written live and readable on any machine.

A trace is a zstd-compressed Arrow IPC stream (`.arrows`), which pyarrow, polars and
DuckDB read directly. It has the columns of the event, and `payload` for data that does
not fit in them (`shadow.trace.layout`). A record batch has one record of one process.
`kind` distinguishes events (below 64, `shadow.events.Kind`) from the rows of seeds,
repairs and facts (`shadow.trace.layout.Row`).

Every message of the stream, schema and batches, has a seal (`shadow.trace.seal`): its
custom metadata has a JSON object with the CRC-32 of the whole message, its length, a
sequence number, and the kind of record in the batch. The last batch is a trailer
without rows; a trace without it was cut short. A reader returns all batches before any
damage, and none after it.
"""

from shadow.trace.file import TraceFile
from shadow.trace.layout import SUFFIX, VERSION, Row
from shadow.trace.read import TraceEntry, TraceReader
from shadow.trace.redact import Redactor
from shadow.trace.write import TraceWriter

__all__ = (
    "SUFFIX",
    "VERSION",
    "TraceEntry",
    "Redactor",
    "Row",
    "TraceFile",
    "TraceReader",
    "TraceWriter",
)
