# SPDX-License-Identifier: GPL-2.0-only
"""Redacts traces for sharing: no file names, host names or environment, and new addresses.

The redactor moves mappings in *windows*: used stretches of the address space, each with
room on both sides (256 GiB on x86-64), or less if another window follows. It moves a whole
window, by a multiple of what a PMD page maps (1 GiB), to the next free place. This preserves the
shape of the page tables: slots, PTE pages and PMD pages stay the same, and so do all results
about them. A randomised address keeps its lower bits (30), because the tables depend on them. PUD
pages are counted at the new place, so a window can have one more or one less.

The redactor cuts a range at the end of its window.
"""

from bisect import bisect_right
from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shadow.events import EventBatch, Kind
from shadow.geometry import MODELLED, X86_64, Geometry
from shadow.mapping_names import FileName, MappingKind, MappingNames
from shadow.records import Events, Facts, Mappings, Record, Repair, Seed, Stacks
from shadow.snapshot import Allocator, Process
from shadow.stacks import Frame
from shadow.table.page_set import Pages

__all__ = ("Redactor",)

_NOT_SETTINGS = {"default", "memory"}
"""Sources of option values that come from the program itself, not from settings."""

_LONGEST = 32 << 40
"""The longest range that the redactor does not cut; less in a small address space."""
_LIMIT = np.uint64(max(geometry.user_bytes for geometry in MODELLED))
_EVERYWHERE = (Kind.LOCK, Kind.UNLOCK, Kind.DOUBT, Kind.LABEL)
_NOT_ADDRESSES = (
    Kind.FORK,
    Kind.EXEC,
    Kind.EXIT,
    Kind.LOSS,
    Kind.PTE_ALLOC,
    Kind.PTE_FREE,
    Kind.SPAWN,
    Kind.FILE,
)
_Addresses = npt.NDArray[np.int64]


def _room(geometry: Geometry) -> int:
    """Room on each side of a window, such that some hundred fit: whole PMD pages."""
    most = min(geometry.pud_span // 2, geometry.user_bytes >> 9)
    return -(-most // geometry.pmd_span) * geometry.pmd_span


@dataclass(frozen=True)
class _Window:
    """[start, end) in old addresses, and the shift to the new ones."""

    start: int
    end: int
    shift: int


class _Windows:
    """The windows of one process, ascending and disjoint."""

    def __init__(self, geometry: Geometry) -> None:
        self._span, self._room = geometry.pmd_span, _room(geometry)
        self._apart = 2 * self._room
        self._longest = min(_LONGEST, geometry.user_bytes // 4)
        self._windows: list[_Window] = []
        self._free = self._apart
        """The new address of the next window."""
        self._arrays = tuple(np.empty(0, np.int64) for _ in range(3))

    def cover(self, starts: _Addresses, ends: _Addresses) -> None:
        """Create windows for ranges (bytes, ascending) that begin outside all windows."""
        spans: list[list[int]] = []
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            if spans and start - spans[-1][1] < 2 * self._room:
                spans[-1][1] = max(spans[-1][1], end)
            else:
                spans.append([start, end])
        for start, end in spans:
            self._add(start & -self._span, -(-end // self._span) * self._span)

    def _add(self, start: int, end: int) -> None:
        at = bisect_right([window.start for window in self._windows], start)
        low = self._windows[at - 1].end if at else 0
        high = self._windows[at].start if at < len(self._windows) else 1 << 62
        start, end = max(start - self._room, low), min(end + self._room, high)
        self._windows.insert(at, _Window(start, end, self._free - start))
        self._free += -(-(end - start) // self._apart) * self._apart
        columns = zip(*((w.start, w.end, w.shift) for w in self._windows), strict=True)
        self._arrays = tuple(np.array(column, np.int64) for column in columns)

    def _at(self, addresses: _Addresses) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """The index of the window of each address, and whether the address is in a window."""
        starts, ends, _ = self._arrays
        at = np.searchsorted(starts, addresses, side="right") - 1
        return at, (at >= 0) & (addresses < ends[at]) if len(starts) else at >= 0

    def moved(self, starts: _Addresses, ends: _Addresses) -> tuple[_Addresses, _Addresses]:
        """The new ranges for old ones; creates windows for ranges without one."""
        at, inside = self._at(starts)
        if not inside.all():
            order = np.flatnonzero(~inside)[np.argsort(starts[~inside])]
            self.cover(starts[order], np.minimum(ends, starts + self._longest)[order])
            at, _ = self._at(starts)
        _, limits, shifts = self._arrays
        return starts + shifts[at], np.minimum(ends, limits[at]) + shifts[at]

    def places(self, starts: _Addresses) -> _Addresses:
        """The new addresses for old ones."""
        return self.moved(starts, starts + 1)[0]


class Redactor:
    """Redacts the records of one process."""

    def __init__(self) -> None:
        self._geometry, self._windows = X86_64, _Windows(X86_64)
        self._files: dict[FileName, int] = {}
        self._numbers: dict[Hashable, int] = {}

    def __call__(self, record: Record) -> Record:
        """The redacted record."""
        match record:
            case Facts():
                self._use(record.kernel.geometry)
                process = _nameless(record.process)
                return replace(record, host="", process=process, redacted=True)
            case Events():
                return replace(record, batch=self._events(record.batch))
            case Seed():
                vmas, brk = self._vmas(record.vmas), self._brk(record.brk)
                pages, names = self._pages(record.pages), self._names(record.names)
                return replace(record, pages=pages, vmas=vmas, brk=brk, names=names)
            case Repair():
                return replace(record, pages=self._pages(record.pages))
            case Stacks():
                return replace(record, frames=[self._frame(each) for each in record.frames])
            case Mappings():
                known = None if record.vmas is None else self._vmas(record.vmas)
                pmds, puds = self._upper(record.pmd_bases)
                brk, names = self._brk(record.brk), self._names(record.names)
                return replace(
                    record, pmd_bases=pmds, pud_bases=puds, vmas=known, brk=brk, names=names
                )

    def _use(self, geometry: Geometry) -> None:
        """Move windows of page tables of this shape; the first facts of a trace come first."""
        if geometry != self._geometry:
            self._geometry, self._windows = geometry, _Windows(geometry)

    def _names(self, names: MappingNames | None) -> MappingNames | None:
        """Replace names by numbers that only distinguish files."""
        if names is None:
            return None
        return MappingNames(
            {key: self._file(file) for key, file in names.files.items()},
            dict.fromkeys(names.labels, "[anon:redacted]"),
            self._brk(names.heap),
        )

    def _file(self, file: FileName) -> FileName:
        if file.kind == MappingKind.VDSO:
            return file
        number = self._files.setdefault(file, len(self._files) + 1)
        return FileName(file.kind, f"[{file.kind} {number}]")

    def _frame(self, frame: Frame) -> Frame:
        """Replace names by numbers: stacks keep their shape, but do not show the program."""
        module = frame.module and f"[module {self._number(frame.module)}]"
        function = f"[function {self._number((frame.module, frame.function or frame.offset))}]"
        return Frame(function, module, 0, frame.language)

    def _number(self, name: Hashable) -> int:
        return self._numbers.setdefault(name, len(self._numbers) + 1)

    def _brk(self, brk: int) -> int:
        return int(self._windows.places(np.array([brk]))[0]) if brk else 0

    def _events(self, events: EventBatch) -> EventBatch:
        events = events.copy()
        placed = ~np.isin(events["kind"], _NOT_ADDRESSES)
        everything = np.isin(events["kind"], _EVERYWHERE) & (events["length"] == 0)  # mlockall
        placed &= ~everything & (events["address"] < _LIMIT)
        starts = events["address"][placed].astype(np.int64)
        lengths = np.minimum(events["length"][placed], _LIMIT).astype(np.int64)
        starts, ends = self._windows.moved(starts, starts + lengths)
        events["address"][placed], events["length"][placed] = starts, ends - starts
        return events

    def _vmas(self, vmas: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
        vmas = vmas.copy()
        vmas["start"], vmas["end"] = self._windows.moved(vmas["start"], vmas["end"])
        # The page offset of anonymous memory is the address of its first mapping.
        anonymous = (vmas["file"] == 0) & (vmas["pgoff"] != 0)
        first = vmas["pgoff"][anonymous] << self._geometry.page_shift
        vmas["pgoff"][anonymous] = self._windows.places(first) >> self._geometry.page_shift
        order = np.argsort(vmas["start"])
        return vmas[order]

    def _upper(self, pmds: _Addresses | None) -> tuple[_Addresses | None, _Addresses | None]:
        if pmds is None:
            return None, None
        pmds = np.sort(self._windows.places(pmds))
        return pmds, np.unique(pmds & -self._geometry.pud_span)

    def _pages(self, pages: Pages) -> Pages:
        slots, huge = self._windows.places(pages.slots), self._windows.places(pages.huge)
        by_slot, by_huge = np.argsort(slots), np.argsort(huge)
        within = pages.within
        if within is not None:
            starts, ends = self._windows.moved(*within)
            order = np.argsort(starts)
            within = starts[order], ends[order]
        guards = pages.guards
        if guards is not None:
            starts, ends = self._windows.moved(*guards)
            order = np.argsort(starts)
            guards = starts[order], ends[order]
        pmds, puds = self._upper(pages.pmd_bases)
        return replace(
            pages,
            slots=slots[by_slot],
            present=pages.present[by_slot],
            huge=huge[by_huge],
            huge_kind=pages.huge_kind[by_huge],
            pmd_bases=pmds,
            pud_bases=puds,
            within=within,
            guards=guards,
        )


def _nameless(process: Process) -> Process:
    """The process without paths and settings; the names of its allocators stay."""
    return replace(
        process,
        exe=None,
        allocator=_unset(process.allocator) if process.allocator else None,
        other_allocators=[_unset(allocator) for allocator in process.other_allocators],
    )


def _unset(allocator: Allocator) -> Allocator:
    """The allocator without its settings, which may contain any text."""
    return replace(
        allocator,
        linked=allocator.linked.split(":")[0] if allocator.linked else None,
        settings={},
        options={
            name: option
            for name, option in allocator.options.items()
            if option.source in _NOT_SETTINGS
        },
        unknown=[],
    )
