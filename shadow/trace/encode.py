# SPDX-License-Identifier: GPL-2.0-only
"""Encodes records as the Arrow record batches of a trace."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shadow.escape import valid
from shadow.events import EVENT, EventBatch
from shadow.mapping_names import MappingNames
from shadow.records import Events, Facts, Mappings, Record, Repair, Seed, Stacks
from shadow.table.page_set import Pages
from shadow.table.vma import ALL_FLAGS, LabelPart
from shadow.trace.layout import COLUMNS, MOST_ROWS, SCHEMA, WHOLE, Read, Row
from shadow.trace.stacks import encode_stacks

__all__ = ("encode",)

_Bytes = npt.NDArray[np.uint8]
_Addresses = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Part:
    """Rows of one kind, either all with payloads of the same width or all without."""

    rows: EventBatch
    payload: _Bytes | None = None

    def pieces(self) -> Iterator["_Part"]:
        for begin in range(0, len(self.rows), MOST_ROWS):
            piece = slice(begin, begin + MOST_ROWS)
            yield _Part(self.rows[piece], None if self.payload is None else self.payload[piece])

    def batch(self) -> pa.RecordBatch:
        columns = [pa.array(np.ascontiguousarray(self.rows[name])) for name in COLUMNS]
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
    maps = np.ascontiguousarray(pages.present).view(np.uint8)
    yield _Part(_rows(Row.PTE_PAGE, pages.slots), maps)
    yield _Part(_rows(Row.HUGE, pages.huge, aux=pages.huge_kind))
    if pages.within is not None:
        starts, ends = pages.within
        yield _Part(_rows(Row.RANGE, starts, length=ends - starts))
    if pages.guards is not None:
        starts, ends = pages.guards
        yield _Part(_rows(Row.GUARD, starts, length=ends - starts))


def _vma_part(vmas: npt.NDArray[np.void]) -> _Part:
    length, aux = vmas["end"] - vmas["start"], vmas["flags"] & ALL_FLAGS
    rows = _rows(Row.VMA, vmas["start"], length=length, aux=aux)
    payload = np.empty(len(vmas), WHOLE)
    for name in ("file", "pgoff", "anon"):
        payload[name] = vmas[name]
    payload["label"] = vmas["flags"] >> LabelPart.PKEY
    return _Part(rows, payload.view(np.uint8).reshape(-1, WHOLE.itemsize))


def _text_part(row: Row, time: int, text: bytes) -> _Part:
    return _Part(_rows(row, 0, time=time), np.frombuffer(text, np.uint8).reshape(1, -1))


def _json_part(row: Row, time: int, data: Facts | MappingNames) -> _Part:
    return _text_part(row, time, json.dumps(valid(asdict(data)), separators=(",", ":")).encode())


def _stack_parts(record: Stacks) -> Iterator[_Part]:
    yield _text_part(Row.STACKS, record.time, encode_stacks(record))
    samples = record.samples
    columns = {"time": samples["time"], "tid": samples["tid"], "aux": samples["stack"]}
    yield _Part(_rows(Row.STACK_SAMPLE, np.zeros(len(samples), np.int64), **columns))


def _upper_parts(pmds: _Addresses | None, puds: _Addresses | None) -> Iterator[_Part]:
    if pmds is not None and puds is not None:
        yield _Part(_rows(Row.PMD_PAGE, pmds))
        yield _Part(_rows(Row.PUD_PAGE, puds))


def _what(pages: Pages) -> Read:
    """The parts that a reading of page tables has."""
    what = Read.PAGES
    if pages.exact:
        what |= Read.EXACT
    if pages.within is not None:
        what |= Read.RANGES
    if pages.guards is not None:
        what |= Read.GUARDS
    return what


def _reading(record: Seed | Repair | Mappings) -> Iterator[_Part]:
    what, brk, parts = Read(0), 0, list[_Part]()
    if isinstance(record, Mappings):
        pmds, puds = record.pmd_bases, record.pud_bases
    else:
        pmds, puds = record.pages.pmd_bases, record.pages.pud_bases
        what |= _what(record.pages)
        parts += _page_parts(record.pages)
    if pmds is not None:
        what |= Read.UPPER
    parts += _upper_parts(pmds, puds)
    if not isinstance(record, Repair) and record.vmas is not None:
        what |= Read.VMAS
        brk = record.brk
        parts.append(_vma_part(record.vmas))
    if not isinstance(record, Repair) and record.names is not None:
        what |= Read.NAMES
        parts.append(_json_part(Row.NAMES, record.time, record.names))
    yield _Part(_rows(Row.READING, brk, time=record.time, aux=what))
    yield from parts


def encode(record: Record, pid: int) -> Iterator[pa.RecordBatch]:
    """Encode a record of the process `pid` as one or several batches."""
    parts: Iterable[_Part]
    if isinstance(record, Events):
        parts = [_Part(record.batch)]
    elif isinstance(record, Facts):
        parts = [_json_part(Row.FACTS, record.told_ns or record.start_ns, record)]
    elif isinstance(record, Stacks):
        parts = _stack_parts(record)
    else:
        parts = _reading(record)
    for part in parts:
        if not isinstance(record, Events):
            part.rows["tgid"] = pid
        yield from (piece.batch() for piece in part.pieces())
