# SPDX-License-Identifier: GPL-2.0-only
"""The layout of records in a trace: one Arrow schema, and the meaning of its rows.

The columns are those of `EVENT` and `payload`. The rows of a batch belong to one
record, and the seal names its kind and its process. Each event is a row. A reading of
page tables begins with a row `Row.READING` and has a row for each object that was read.
Facts are one row with a JSON payload.
"""

from enum import IntEnum, IntFlag

import numpy as np
import pyarrow as pa

from shadow.events import EVENT
from shadow.records import Events, Facts, Mappings, Record, Repair, Seed, Stacks

__all__ = (
    "COLUMNS",
    "FILE",
    "MOST_ROWS",
    "SCHEMA",
    "SUFFIX",
    "VERSION",
    "WHOLE",
    "Read",
    "Row",
    "name_of",
)

VERSION = 1
SUFFIX = ".arrows"
"""The suffix that the Arrow project recommends for streams."""

COLUMNS = EVENT.names or ()
SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.from_numpy_dtype(EVENT[name]), nullable=False) for name in COLUMNS),
        ("payload", pa.binary()),
    ]
)
MOST_ROWS = 1 << 20
"""Most rows of a batch; a longer record takes several batches."""
FILE = np.dtype([("file", "<i8"), ("pgoff", "<i8")])
"""Payload of a VMA in older traces, which have no more data."""
WHOLE = np.dtype([*FILE.descr, ("anon", "<i8"), ("label", "<i8")])
"""Payload of a VMA: the fields of `shadow.table.VMA`; label: its `flags` above `VmaFlag`."""


class Row(IntEnum):
    """Values of `kind` for rows that are not events; part of the trace format."""

    READING = 64
    """time: time of the reading; address: the program break; aux: `Read`."""
    PTE_PAGE = 65
    """address: its slot; payload: the map of the entries that are not none, a bit for each (64
    bytes with 4 KiB pages)."""
    HUGE = 66
    """A leaf PMD; address: its slot; aux: 1 if anonymous, 2 if a file."""
    PMD_PAGE = 67
    """address: the first address that it maps; PUD_PAGE likewise."""
    PUD_PAGE = 68
    RANGE = 69
    """A range that a partial reading covered: address and length."""
    VMA = 70
    """address, length; aux: `VmaFlag`; payload: `WHOLE`, or in older traces `FILE`."""
    FACTS = 71
    """payload: JSON."""
    GUARD = 72
    """Guard markers in one slot: address and length."""
    NAMES = 73
    """payload: JSON, the names of mappings (`shadow.mapping_names.MappingNames`)."""
    STACKS = 74
    """payload: JSON, new frames and stacks (`shadow.trace.stacks.StackText`)."""
    STACK_SAMPLE = 75
    """time, tid; aux: the number of its stack."""


class Read(IntFlag):
    """The parts of a reading; distinguishes parts that are empty from parts that were not read."""

    PAGES = 1
    EXACT = 2
    UPPER = 4
    RANGES = 8
    VMAS = 16
    GUARDS = 32
    NAMES = 64


_NAMES: dict[type, str] = {
    Facts: "facts",
    Seed: "seed",
    Repair: "repair",
    Mappings: "mappings",
    Stacks: "stacks",
}


def name_of(record: Record) -> str:
    """The kind of a record, as in the seals of its batches."""
    if isinstance(record, Events):
        return "counted" if record.counted else "events"
    return _NAMES[type(record)]
