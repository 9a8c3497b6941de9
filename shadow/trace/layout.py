# SPDX-License-Identifier: GPL-2.0-only
"""How records lie in a trace: one Arrow schema, and what its rows mean.

The columns are those of `EVENT` and `payload`. The rows of a batch belong to one
record; its seal says of which sort and of which process. Events are rows as they
are. A reading of page tables begins with a row `Row.READING`, and has a row for each
thing that was read. Facts are one row whose payload is JSON.
"""

from enum import IntEnum, IntFlag

import numpy as np
import pyarrow as pa

from shadow.events import EVENT
from shadow.records import Events, Facts, Mappings, Record, Repair, Seed

__all__ = (
    "COLUMNS",
    "FILE",
    "MAP_BYTES",
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
"""What the Arrow project recommends for streams."""

COLUMNS = EVENT.names or ()
SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.from_numpy_dtype(EVENT[name]), nullable=False) for name in COLUMNS),
        ("payload", pa.binary()),
    ]
)
MOST_ROWS = 1 << 20
"""Rows of a batch; a longer record is several batches."""
MAP_BYTES = 64
"""Payload of a PTE page."""
FILE = np.dtype([("file", "<i8"), ("pgoff", "<i8")])
"""Payload of a VMA of which no more is known, as in traces of before."""
WHOLE = np.dtype([*FILE.descr, ("anon", "<i8"), ("label", "<i8")])
"""Payload of a VMA: as in `shadow.table.VMA`; label: its `flags` above `VmaFlag`."""


class Row(IntEnum):
    """What a row is that is no event: values of `kind`, part of the format."""

    READING = 64
    """time: when; address: the program break; aux: what was read."""
    PTE_PAGE = 65
    """address: its slot; payload: the 512-bit map of its entries that are not none."""
    HUGE = 66
    """A leaf PMD; address: its slot; aux: 1 anonymous, 2 file."""
    PMD_PAGE = 67
    """address: the first that it maps."""
    PUD_PAGE = 68
    RANGE = 69
    """What the reading covered, where that is not everything: address and length."""
    VMA = 70
    """address, length; aux: `VmaFlag`; payload: `WHOLE`, or in older traces `FILE`."""
    FACTS = 71
    """payload: JSON."""
    GUARD = 72
    """Guard markers in one slot: address and length."""
    NAMES = 73
    """payload: JSON, the names of mappings (`shadow.mapping_names.MappingNames`)."""


class Read(IntFlag):
    """What a reading has; nothing found is not the same as not looked for."""

    PAGES = 1
    EXACT = 2
    UPPER = 4
    RANGES = 8
    VMAS = 16
    GUARDS = 32
    NAMES = 64


_NAMES: dict[type, str] = {Facts: "facts", Seed: "seed", Repair: "repair", Mappings: "mappings"}


def name_of(record: Record) -> str:
    """The sort of a record, as its batches' seals have it."""
    if isinstance(record, Events):
        return "counted" if record.counted else "events"
    return _NAMES[type(record)]
