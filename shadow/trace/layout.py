"""Records as Arrow record batches, and back.

One schema serves all: the columns of `EVENT` and `payload`. The rows of a batch
belong to one record; its seal says of which sort and of which process. Events
are rows as they are. A reading of page tables begins with a row `Row.READING`, and
has a row for each thing that was read. Facts are one row whose payload is JSON.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from enum import IntEnum, IntFlag
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shadow.events import EVENT, EventBatch, Kind
from shadow.geometry import SLOT
from shadow.policy import Policy
from shadow.records import Events, Facts, Mappings, Record, Repair, Seed
from shadow.snapshot import Allocator, Audit, Kernel, Process
from shadow.table import VMA, HugePages, Pages

__all__ = ("SCHEMA", "SUFFIX", "VERSION", "Row", "decode", "encode", "name_of")

VERSION = 1
SUFFIX = ".arrows"
"""What the Arrow project recommends for streams."""

_COLUMNS = EVENT.names or ()
SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.from_numpy_dtype(EVENT[name]), nullable=False) for name in _COLUMNS),
        ("payload", pa.binary()),
    ]
)
MOST_ROWS = 1 << 20
"""Rows of a batch; a longer record is several batches."""

_MAP_BYTES = 64
_KINDS = max(Kind) + 1
_FILE = np.dtype([("file", "<i8"), ("pgoff", "<i8")])
_Bytes = npt.NDArray[np.uint8]
_Addresses = npt.NDArray[np.int64]


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
    """address, length; aux: `VmaFlag`; payload: identity of the file, page offset (int64)."""
    FACTS = 71
    """payload: JSON."""


class _Read(IntFlag):
    """What a reading has; nothing found is not the same as not looked for."""

    PAGES = 1
    EXACT = 2
    UPPER = 4
    RANGES = 8
    VMAS = 16


_NAMES: dict[type, str] = {Facts: "facts", Seed: "seed", Repair: "repair", Mappings: "mappings"}


def name_of(record: Record) -> str:
    """The sort of a record, as its batches' seals have it."""
    if isinstance(record, Events):
        return "counted" if record.counted else "events"
    return _NAMES[type(record)]


@dataclass(frozen=True)
class _Part:
    """Rows of one kind, with payloads of one width or none."""

    rows: EventBatch
    payload: _Bytes | None = None

    def pieces(self) -> Iterator["_Part"]:
        for begin in range(0, len(self.rows), MOST_ROWS):
            piece = slice(begin, begin + MOST_ROWS)
            yield _Part(self.rows[piece], None if self.payload is None else self.payload[piece])

    def batch(self) -> pa.RecordBatch:
        columns = [pa.array(np.ascontiguousarray(self.rows[name])) for name in _COLUMNS]
        count = len(self.rows)
        if self.payload is None:
            payload = pa.nulls(count, pa.binary())
        else:
            ends = np.arange(count + 1, dtype=np.int32) * np.int32(self.payload.shape[1])
            data = pa.py_buffer(np.ascontiguousarray(self.payload))
            payload = pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(ends), data])
        return pa.record_batch([*columns, payload], schema=SCHEMA)


def _rows(kind: Row, addresses: npt.ArrayLike, **columns: npt.ArrayLike) -> EventBatch:
    starts = np.atleast_1d(np.asarray(addresses))
    rows = np.zeros(len(starts), EVENT)
    rows["kind"], rows["address"] = kind, starts
    for name, values in columns.items():
        rows[name] = values
    return rows


def _page_parts(pages: Pages) -> Iterator[_Part]:
    maps = np.ascontiguousarray(pages.present).view(np.uint8).reshape(-1, _MAP_BYTES)
    yield _Part(_rows(Row.PTE_PAGE, pages.slots), maps)
    yield _Part(_rows(Row.HUGE, pages.huge, aux=pages.huge_kind))
    if pages.within is not None:
        starts, ends = pages.within
        yield _Part(_rows(Row.RANGE, starts, length=ends - starts))


def _vma_part(vmas: npt.NDArray[np.void]) -> _Part:
    rows = _rows(Row.VMA, vmas["start"], length=vmas["end"] - vmas["start"], aux=vmas["flags"])
    file = np.empty(len(vmas), _FILE)
    file["file"], file["pgoff"] = vmas["file"], vmas["pgoff"]
    return _Part(rows, file.view(np.uint8).reshape(-1, _FILE.itemsize))


def _upper_parts(pmds: _Addresses | None, puds: _Addresses | None) -> Iterator[_Part]:
    if pmds is not None and puds is not None:
        yield _Part(_rows(Row.PMD_PAGE, pmds))
        yield _Part(_rows(Row.PUD_PAGE, puds))


def _reading(record: Seed | Repair | Mappings) -> Iterator[_Part]:
    what, parts = _Read(0), list[_Part]()
    time, brk = record.time, 0
    if isinstance(record, Mappings):
        upper = record.pmd_bases, record.pud_bases
    else:
        upper = record.pages.pmd_bases, record.pages.pud_bases
        what |= _Read.PAGES | (_Read.EXACT if record.pages.exact else _Read(0))
        what |= _Read(0) if record.pages.within is None else _Read.RANGES
        parts += _page_parts(record.pages)
    if upper[0] is not None:
        what |= _Read.UPPER
    parts += _upper_parts(*upper)
    if not isinstance(record, Repair) and record.vmas is not None:
        what, brk = what | _Read.VMAS, record.brk
        parts.append(_vma_part(record.vmas))
    yield _Part(_rows(Row.READING, brk, time=time, aux=what))
    yield from parts


def encode(record: Record, pid: int) -> Iterator[pa.RecordBatch]:
    """The batches of a record of the process `pid`, one or several."""
    parts: Iterable[_Part]
    if isinstance(record, Events):
        parts = [_Part(record.batch)]
    elif isinstance(record, Facts):
        text = json.dumps(asdict(record), separators=(",", ":")).encode()
        row = _rows(Row.FACTS, 0, time=record.told_ns or record.start_ns)
        parts = [_Part(row, np.frombuffer(text, np.uint8).reshape(1, -1))]
    else:
        parts = _reading(record)
    for part in parts:
        if not isinstance(record, Events):
            part.rows["tgid"] = pid
        yield from (piece.batch() for piece in part.pieces())


def _events(batch: pa.RecordBatch) -> EventBatch:
    events = np.empty(batch.num_rows, EVENT)
    for name in _COLUMNS:
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

    def pages(self, what: _Read) -> Pages:
        starts = self.column(Row.RANGE, "address")
        ranges = starts, starts + self.column(Row.RANGE, "length")
        return Pages(
            slots=self.slots(Row.PTE_PAGE),
            present=np.frombuffer(bytearray(self.payload(Row.PTE_PAGE)), "<u8").reshape(
                -1, _MAP_BYTES // 8
            ),
            huge=self.slots(Row.HUGE),
            huge_kind=self.column(Row.HUGE, "aux").astype(np.uint8),
            exact=bool(what & _Read.EXACT),
            pmd_bases=self.slots(Row.PMD_PAGE) if what & _Read.UPPER else None,
            pud_bases=self.slots(Row.PUD_PAGE) if what & _Read.UPPER else None,
            within=ranges if what & _Read.RANGES else None,
        )

    def vmas(self) -> npt.NDArray[np.void]:
        starts = self.column(Row.VMA, "address")
        vmas = np.zeros(len(starts), VMA)
        vmas["start"], vmas["end"] = starts, starts + self.column(Row.VMA, "length")
        vmas["flags"] = self.column(Row.VMA, "aux")
        file = np.frombuffer(self.payload(Row.VMA), _FILE)
        vmas["file"], vmas["pgoff"] = file["file"], file["pgoff"]
        return vmas


def _known(cls: type[Any], told: dict[str, Any]) -> dict[str, Any]:
    """The fields that this version knows: later ones may add more."""
    return {field.name: told[field.name] for field in fields(cls) if field.name in told}


def _facts(text: bytes) -> Facts:
    told = _known(Facts, json.loads(text))
    process = _known(Process, told["process"])
    if process["allocator"] is not None:
        process["allocator"] = Allocator(**_known(Allocator, process["allocator"]))
    told["process"] = Process(**process)
    kernel = Kernel(**_known(Kernel, told["kernel"]))
    Policy.from_label(kernel.policy)
    if kernel.levels not in (4, 5):
        raise ValueError(f"page tables of {kernel.levels} levels")
    told["kernel"] = kernel
    told["audit"] = Audit(**_known(Audit, told["audit"]))
    return Facts(**told | {"huge": HugePages(*told["huge"]), "notes": tuple(told["notes"])})


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
    what = _Read(int(aux))
    if name == "mappings":
        upper = what & _Read.UPPER
        return Mappings(
            int(time),
            pmd_bases=rows.slots(Row.PMD_PAGE) if upper else None,
            pud_bases=rows.slots(Row.PUD_PAGE) if upper else None,
            vmas=rows.vmas() if what & _Read.VMAS else None,
            brk=int(brk),
        )
    if name == "repair":
        return Repair(int(time), rows.pages(what))
    if name == "seed":
        return Seed(int(time), rows.pages(what), rows.vmas(), int(brk))
    raise ValueError(f"no record is called {name!r}")
