# SPDX-License-Identifier: GPL-2.0-only
"""The trace file: a stream of records, written where they happen, read anywhere.

A trace is an Arrow IPC stream (`.arrows`), zstd-compressed, which pyarrow, polars
and DuckDB read as it is: the columns of the event, and `payload` for what does
not fit in them (`shadow.trace.layout`). A record batch holds one record of one
process; `kind` tells events (below 64, `shadow.events.Kind`) from the rows of
seeds, repairs and facts (`shadow.trace.layout.Row`).

Every message of the stream, schema and batches, is sealed (`shadow.trace.seal`): its
custom metadata has a JSON object with the CRC-32 of the whole message, its
length, a sequence number, and what the batch holds. The last batch is a trailer
without rows: a trace that lacks it was cut short. Whatever the damage, all
batches before it can be read, and nothing that comes after it is.
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
