"""The Arrow record batches of a trace as records again.

Their bytes are as they were written, but not everybody who writes traces means
well: whatever they hold, what comes of it is a record or an error.
"""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shadow.events import EVENT, EventBatch, Kind
from shadow.geometry import SLOT
from shadow.policy import Policy
from shadow.records import Events, Facts, Mappings, Record, Repair, Seed
from shadow.snapshot import Allocator, AllocatorOption, Audit, Kernel, Process
from shadow.table import NO_ANON, VMA, HugePages, LabelPart, Pages, Ranges
from shadow.trace.layout import COLUMNS, FILE, MAP_BYTES, WHOLE, Read, Row

__all__ = ("decode",)

_KINDS = max(Kind) + 1
_MOST_ANON_VMAS = 1 << 40
_Addresses = npt.NDArray[np.int64]


def _events(batch: pa.RecordBatch) -> EventBatch:
    events = np.empty(batch.num_rows, EVENT)
    for name in COLUMNS:
        events[name] = batch.column(name).to_numpy()
    if len(events) and not 0 < events["kind"].min() <= events["kind"].max() < _KINDS:
        raise ValueError("an event of no known kind")
    return events


class _Rows:
    """The rows of a reading, by their kind."""

    def __init__(self, batches: Sequence[pa.RecordBatch]) -> None:
        for batch in batches:
            batch.validate(full=True)
        kinds = [batch.column("kind").to_numpy() for batch in batches]
        self._batches = {
            row: [b for b, kind in zip(batches, kinds, strict=True) if len(kind) and kind[0] == row]
            for row in Row
        }

    def column(self, row: Row, name: str) -> _Addresses:
        columns = [batch.column(name).to_numpy() for batch in self._batches[row]]
        return np.concatenate([np.empty(0, np.int64), *(c.astype(np.int64) for c in columns)])

    def slots(self, row: Row, span: int = SLOT) -> _Addresses:
        addresses = self.column(row, "address")
        if (addresses % span).any() or (np.diff(addresses) <= 0).any():
            raise ValueError(f"addresses of {row.name} that are none")
        return addresses

    def payload(self, row: Row) -> bytes:
        return b"".join(
            b"".join(batch.column("payload").to_pylist()) for batch in self._batches[row]
        )

    def pages(self, what: Read) -> Pages:
        ranges, guards = self.ranges(Row.RANGE), self.ranges(Row.GUARD)
        return Pages(
            slots=self.slots(Row.PTE_PAGE),
            present=np.frombuffer(bytearray(self.payload(Row.PTE_PAGE)), "<u8").reshape(
                -1, MAP_BYTES // 8
            ),
            huge=self.slots(Row.HUGE),
            huge_kind=self.column(Row.HUGE, "aux").astype(np.uint8),
            exact=bool(what & Read.EXACT),
            pmd_bases=self.slots(Row.PMD_PAGE) if what & Read.UPPER else None,
            pud_bases=self.slots(Row.PUD_PAGE) if what & Read.UPPER else None,
            within=ranges if what & Read.RANGES else None,
            guards=guards if what & Read.GUARDS else None,
        )

    def ranges(self, row: Row) -> Ranges:
        starts = self.column(row, "address")
        ends = starts + self.column(row, "length")
        if (ends <= starts).any() or (starts[1:] < ends[:-1]).any():
            raise ValueError(f"ranges of {row.name} that are none")
        return starts, ends

    def vmas(self) -> npt.NDArray[np.void]:
        starts = self.column(Row.VMA, "address")
        vmas = np.zeros(len(starts), VMA)
        vmas["start"], vmas["end"] = starts, starts + self.column(Row.VMA, "length")
        vmas["flags"] = self.column(Row.VMA, "aux")
        payload = self.payload(Row.VMA)
        whole = len(payload) == WHOLE.itemsize * len(vmas)
        told = np.frombuffer(payload, WHOLE if whole else FILE)
        vmas["file"], vmas["pgoff"] = told["file"], told["pgoff"]
        if whole:
            vmas["anon"] = told["anon"]
            vmas["flags"] |= told["label"] << LabelPart.PKEY
        if (vmas["anon"] < NO_ANON).any() or (vmas["anon"] > _MOST_ANON_VMAS).any():
            raise ValueError("anon_vmas that have no number")
        if (vmas["flags"] < 0).any():
            raise ValueError("flags of VMAs that are none")
        return vmas


def _known(cls: type[Any], told: dict[str, Any]) -> dict[str, Any]:
    """The fields that this version knows: later ones may add more."""
    return {field.name: told[field.name] for field in fields(cls) if field.name in told}


def _allocator(told: dict[str, Any]) -> Allocator:
    known = _known(Allocator, told)
    options = {
        name: AllocatorOption(**_known(AllocatorOption, option))
        for name, option in dict(known.get("options", {})).items()
    }
    return Allocator(**known | {"options": options})


def _facts(text: bytes) -> Facts:
    told = _known(Facts, json.loads(text))
    process = _known(Process, told["process"])
    if process["allocator"] is not None:
        process["allocator"] = _allocator(process["allocator"])
    others = process.get("other_allocators", [])
    process["other_allocators"] = [_allocator(other) for other in others]
    told["process"] = Process(**process)
    kernel = Kernel(**_known(Kernel, told["kernel"]))
    Policy.from_label(kernel.policy)
    if kernel.levels not in (4, 5):
        raise ValueError(f"page tables of {kernel.levels} levels")
    told["kernel"] = kernel
    told["audit"] = Audit(**_known(Audit, told["audit"]))
    huge = HugePages(*told["huge"])
    if huge.thp not in (0, 1, 2):
        raise ValueError(f"transparent huge pages set to {huge.thp}")
    return Facts(**told | {"huge": huge, "notes": tuple(told["notes"])})


def decode(name: str, batches: Sequence[pa.RecordBatch]) -> Record:
    """The record that these batches hold.

    Args:
        name: its sort, from the seals.
        batches: all its batches, one or several.

    Raises:
        ValueError, KeyError, TypeError: it is none; nobody who writes traces made it.
    """
    if name in ("events", "counted"):
        parts = [_events(batch) for batch in batches]
        events = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return Events(events, counted=name == "counted")
    rows = _Rows(batches)
    if name == "facts":
        return _facts(rows.payload(Row.FACTS))
    ((time,), (brk,), (aux,)) = (rows.column(Row.READING, c) for c in ("time", "address", "aux"))
    what = Read(int(aux))
    if name == "mappings":
        upper = what & Read.UPPER
        return Mappings(
            int(time),
            pmd_bases=rows.slots(Row.PMD_PAGE) if upper else None,
            pud_bases=rows.slots(Row.PUD_PAGE) if upper else None,
            vmas=rows.vmas() if what & Read.VMAS else None,
            brk=int(brk),
        )
    if name == "repair":
        return Repair(int(time), rows.pages(what))
    if name == "seed":
        return Seed(int(time), rows.pages(what), rows.vmas(), int(brk))
    raise ValueError(f"no record is called {name!r}")
