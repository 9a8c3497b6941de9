# SPDX-License-Identifier: GPL-2.0-only
"""Decodes the Arrow record batches of a trace to records.

The seal proves that the bytes are unchanged, not that ptescope wrote them: traces are
untrusted input. Whatever the batches contain, decoding returns a record or raises an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shadow.events import EVENT, EventBatch, Kind
from shadow.geometry import Geometry
from shadow.mapping_names import MappingNames
from shadow.records import Events, Mappings, Record, Repair, Seed, Stacks
from shadow.table.page_set import Pages
from shadow.table.state import HUGE_ANON, HUGE_FILE
from shadow.table.vma import NO_ANON, VMA, LabelPart
from shadow.trace.facts import MOST, decode_facts, decode_names
from shadow.trace.layout import COLUMNS, FILE, WHOLE, Read, Row
from shadow.trace.stacks import decode_stacks
from shadow.user_space import outside

__all__ = ("decode",)

_KINDS = max(Kind) + 1
_WORD_BITS = 64
_MOST_ANON_VMAS = 1 << 40
_MOST_LOST = 1 << 40
_Addresses = npt.NDArray[np.int64]


def _time(time: int) -> int:
    if not 0 <= time < MOST:
        raise ValueError("a time out of range")
    return time


def _events(batch: pa.RecordBatch, limit: int) -> EventBatch:
    batch.validate(full=True)
    events = np.empty(batch.num_rows, EVENT)
    for name in COLUMNS:
        events[name] = batch.column(name).to_numpy()
    if len(events) and not 0 < events["kind"].min() <= events["kind"].max() < _KINDS:
        raise ValueError("an event of an unknown kind")
    if outside(events, limit).any():
        raise ValueError("an event outside user space")
    if events["length"][events["kind"] == Kind.LOSS].max(initial=0) > _MOST_LOST:
        raise ValueError("a loss of impossibly many events")
    _time(int(events["time"].max(initial=0)))
    return events


@dataclass(frozen=True)
class _Ranges:
    """Disjoint ranges, ascending, in user space."""

    starts: _Addresses
    ends: _Addresses


class _Rows:
    """The rows of a reading, by kind."""

    def __init__(self, batches: Sequence[pa.RecordBatch], geometry: Geometry) -> None:
        self._geometry, self._limit = geometry, geometry.user_bytes
        for batch in batches:
            batch.validate(full=True)
        kinds = [batch.column("kind").to_numpy() for batch in batches]
        if any((kind != kind[0]).any() for kind in kinds if len(kind)):
            raise ValueError("a batch with rows of several kinds")
        self._batches = {
            row: [b for b, kind in zip(batches, kinds, strict=True) if len(kind) and kind[0] == row]
            for row in Row
        }

    def column(self, row: Row, name: str) -> _Addresses:
        columns = [batch.column(name).to_numpy() for batch in self._batches[row]]
        return np.concatenate([np.empty(0, np.int64), *(c.astype(np.int64) for c in columns)])

    def tables(self, row: Row, span: int) -> _Addresses:
        addresses = self.column(row, "address")
        wrong = (addresses % span).any() or (np.diff(addresses) <= 0).any()
        if wrong or ((addresses < 0) | (addresses >= self._limit)).any():
            raise ValueError(f"invalid addresses in {row.name} rows")
        return addresses

    def ranges(self, row: Row) -> _Ranges:
        starts, lengths = self.column(row, "address"), self.column(row, "length")
        wrong = (starts < 0) | (lengths <= 0) | (lengths > self._limit - starts)
        if wrong.any() or (starts[1:] < (starts + lengths)[:-1]).any():
            raise ValueError(f"invalid ranges in {row.name} rows")
        return _Ranges(starts, starts + lengths)

    def payload(self, row: Row) -> bytes:
        return b"".join(
            b"".join(batch.column("payload").to_pylist()) for batch in self._batches[row]
        )

    def pages(self, what: Read) -> Pages:
        ranges, guards = self.ranges(Row.RANGE), self.ranges(Row.GUARD)
        span, words = self._geometry.slot, self._geometry.entries // _WORD_BITS
        slots, kinds = self.tables(Row.PTE_PAGE, span), self.column(Row.HUGE, "aux")
        if not np.isin(kinds, (HUGE_ANON, HUGE_FILE)).all():
            raise ValueError("a huge page of an unknown kind")
        maps = np.frombuffer(bytearray(self.payload(Row.PTE_PAGE)), "<u8")
        pmds, puds = self.upper(what)
        return Pages(
            slots=slots,
            present=maps.reshape(len(slots), words),
            huge=self.tables(Row.HUGE, span),
            huge_kind=kinds.astype(np.uint8),
            exact=bool(what & Read.EXACT),
            pmd_bases=pmds,
            pud_bases=puds,
            within=(ranges.starts, ranges.ends) if what & Read.RANGES else None,
            guards=(guards.starts, guards.ends) if what & Read.GUARDS else None,
        )

    def upper(self, what: Read) -> tuple[_Addresses | None, _Addresses | None]:
        if not what & Read.UPPER:
            return None, None
        pmds = self.tables(Row.PMD_PAGE, self._geometry.pmd_span)
        return pmds, self.tables(Row.PUD_PAGE, self._geometry.pud_span)

    def names(self, what: Read) -> MappingNames | None:
        return decode_names(self.payload(Row.NAMES)) if what & Read.NAMES else None

    def stacks(self) -> Stacks:
        (time,) = self.column(Row.STACKS, "time")
        columns = (self.column(Row.STACK_SAMPLE, name) for name in ("time", "tid", "aux"))
        return decode_stacks(_time(int(time)), self.payload(Row.STACKS), *columns)

    def vmas(self) -> npt.NDArray[np.void]:
        ranges = self.ranges(Row.VMA)
        vmas = np.zeros(len(ranges.starts), VMA)
        vmas["start"], vmas["end"] = ranges.starts, ranges.ends
        vmas["flags"] = self.column(Row.VMA, "aux")
        payload = self.payload(Row.VMA)
        whole = len(payload) == WHOLE.itemsize * len(vmas)
        stored = np.frombuffer(payload, WHOLE if whole else FILE).reshape(len(vmas))
        vmas["file"], vmas["pgoff"] = stored["file"], stored["pgoff"]
        if whole:
            vmas["anon"] = stored["anon"]
            vmas["flags"] |= stored["label"] << LabelPart.PKEY
        if (vmas["anon"] < NO_ANON).any() or (vmas["anon"] > _MOST_ANON_VMAS).any():
            raise ValueError("invalid numbers of anon_vmas")
        if (vmas["flags"] < 0).any():
            raise ValueError("invalid flags of VMAs")
        return vmas


def decode(name: str, batches: Sequence[pa.RecordBatch], geometry: Geometry) -> Record:
    """Decode the record in these batches.

    Args:
        name: the kind of the record, from the seals.
        batches: all batches of the record, one or several.
        geometry: the page tables of the process.

    Raises:
        ValueError, LookupError, TypeError, ArithmeticError, RecursionError: the batches have
            no valid record, so no recorder wrote them.
    """
    if name in ("events", "counted"):
        parts = [_events(batch, geometry.user_bytes) for batch in batches]
        events = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return Events(events, counted=name == "counted")
    rows = _Rows(batches, geometry)
    if name == "facts":
        return decode_facts(rows.payload(Row.FACTS))
    if name == "stacks":
        return rows.stacks()
    ((found,), (brk,), (aux,)) = (rows.column(Row.READING, c) for c in ("time", "address", "aux"))
    what, time = Read(int(aux)), _time(int(found))
    if not 0 <= brk < geometry.user_bytes:
        raise ValueError("a program break outside user space")
    if name == "mappings":
        vmas = rows.vmas() if what & Read.VMAS else None
        return Mappings(time, *rows.upper(what), vmas=vmas, brk=int(brk), names=rows.names(what))
    if name == "repair":
        return Repair(time, rows.pages(what))
    if name == "seed":
        return Seed(time, rows.pages(what), rows.vmas(), int(brk), rows.names(what))
    raise ValueError(f"a record of an unknown kind {name!r}")
