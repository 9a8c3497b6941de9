# SPDX-License-Identifier: GPL-2.0-only
"""The readings of one audit: page tables and mappings, repeated until they can be compared.

A reading takes time, and the process runs meanwhile. Changing slots and slots that differ are
read again, until enough slots are compared or the time is over.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shadow.engine import Engine
from shadow.events import Kind
from shadow.records import Mappings
from shadow.snapshot import COMPARED_ENOUGH
from shadow.table.counters import Counter
from shadow.table.page_set import Pages, Ranges, overlapping
from shadow.table.vma_readings import is_torn
from tracer.census import Reader
from tracer.follow.causes import Causes
from tracer.follow.compare import Difference, Mask, Slots, candidates, compare
from tracer.follow.coverage import READINGS, Coverage
from tracer.follow.in_flight import MARGIN_NS, MOVE_NO_MAPPING, Motion
from tracer.follow.vma_strikes import VmaStrikes
from tracer.probes.progress import Progress
from tracer.probes.stream import take_all
from tracer.process.target import Target

__all__ = ("Comparer", "Comparison")

_Vmas = npt.NDArray[np.void]


@dataclass(frozen=True)
class Comparison:
    """The result of an audit.

    Attributes:
        found: the difference, for the slots that were compared.
        real: the page tables of the slots that differ.
        coverage: which slots were compared.
        upper: a complete reading during which no mapping changed, for its upper levels; None:
            there was none, or mappings have changed since.
        vmas: (n,) of `VMA`: the mappings during the last such reading; None: as for `upper`.
        vmas_certain: whether their differences, if any, lasted for several readings.
    """

    found: Difference
    real: Pages
    coverage: Coverage
    upper: Pages | None
    vmas: _Vmas | None
    vmas_certain: bool


@dataclass(frozen=True)
class _Reading:
    """One reading and its comparison.

    `begin` is its start time, ns. `quiet` is whether its VMAs are whole, and no call was in
    progress at its end.
    """

    begin: int
    quiet: bool
    vmas: _Vmas
    real: Pages
    shadow: Pages
    slots: Slots
    moving: Mask
    called: dict[str, Mask]
    found: Difference

    @property
    def differs(self) -> Mask:
        """(n,) which of `slots` differ and are not changing."""
        return np.isin(self.slots, self.found.slots)

    @property
    def pte_pages(self) -> Mask:
        """(n,) which of `slots` have a PTE page in the shadow or in the reading."""
        return np.isin(self.slots, self.real.slots) | np.isin(self.slots, self.shadow.slots)


def _of_files(vmas: _Vmas) -> Ranges:
    """The addresses that map files."""
    mapped = vmas[vmas["file"] != 0]
    return mapped["start"], mapped["end"]


class Comparer:
    """Reads and compares one process.

    Args:
        target: the process.
        following: its shadow.
        reader: reads the page tables.
        motion: its recent events.
        causes: names the causes of differences without events.
        take: takes new events; returns their number.
        progress: the calls that have not ended.
    """

    def __init__(
        self,
        target: Target,
        engine: Engine,
        reader: Reader,
        motion: Motion,
        causes: Causes,
        take: Callable[[], int],
        progress: Callable[[], Progress],
    ) -> None:
        self._target, self._following, self._reader = target, engine, reader
        self._motion, self._causes = motion, causes
        self._take, self._progress = take, progress

    def compare(self, within: Ranges | None, patience_ns: int) -> Comparison | None:
        """Compare until enough slots are compared.

        Args:
            within: ranges to compare; None: everything.
            patience_ns: how long to repeat readings of changing slots.

        Returns:
            The result; None: the process called execve meanwhile.

        Raises:
            NoSuchTargetError, OSError: the process has ended.
        """
        execs = self._count(Kind.EXEC)
        deadline = time.monotonic_ns() + patience_ns
        coverage, readings = Coverage(), 0
        upper: tuple[int, Pages | None] = 0, None
        vmas: tuple[int, _Vmas | None] = 0, None
        strikes = VmaStrikes()
        while True:
            read = self._read(within)
            if self._count(Kind.EXEC) != execs:
                return None
            certain = coverage.add(read.slots, read.pte_pages, read.moving, read.differs)
            if read.quiet and not self._motion.mappings_moving(read.begin):
                vmas = self._mapping_events(), read.vmas
                strikes.add(self._following.table.wrong_vmas(read.vmas))
                if read.real.pmd_bases is not None:
                    upper = self._mapping_events(), read.real
            readings += 1
            if coverage.suffices(COMPARED_ENOUGH) and strikes.settled:
                break
            # A reading during a change of mappings says nothing about VMAs, so they may need more.
            enough = READINGS if strikes.settled else 2 * READINGS
            if readings >= enough and time.monotonic_ns() >= deadline:
                break
            again = read.slots[read.moving | read.differs]
            within = again, again + read.real.slot_bytes
            time.sleep(MARGIN_NS / 1e9)
        found = self._named(read, certain)
        now = self._mapping_events()
        return Comparison(
            found=found,
            real=read.real.restricted((found.slots, found.slots + read.real.slot_bytes)),
            coverage=coverage,
            upper=upper[1] if upper[0] == now else None,
            vmas=vmas[1] if vmas[0] == now else None,
            vmas_certain=strikes.settled,
        )

    def _named(self, read: _Reading, certain: Mask) -> Difference:
        """The slots that certainly differ, with the possible causes."""
        if not len(read.found.slots):
            return read.found
        doubtful, called = read.moving | (read.differs & ~certain), read.called
        pinning = None
        if not read.found.explained:
            pinning = self._causes.pinning(read.found.causes.get("unknown", 0))
            called = {**called, **self._causes.by_place(read.slots)}
        return compare(
            self._following.table,
            read.real,
            shadow=read.shadow,
            moving=doubtful,
            called=called,
            pinning=pinning,
        )

    def _read(self, within: Ranges | None) -> _Reading:
        take_all(self._take)
        begin = self._motion.reading_since = time.monotonic_ns()
        vmas = self._reader.vmas(self._target)
        if self._motion.lost:
            brk = self._target.program_break()
            self._following.apply(Mappings(begin, vmas=vmas, brk=brk))
            self._motion.lost = is_torn(vmas)
        # The ring must not overflow during a long reading.
        real = self._reader.pages(self._target, vmas, within=within, between=self._take)
        progress = self._progress()
        take_all(self._take)  # the events of calls that have ended until then
        table = self._following.table
        shadow = table.pages()
        slots = candidates(shadow, real)
        moving, called = self._motion.moving(slots, begin), self._motion.called(slots)
        moving |= overlapping(slots, progress.ranges, real.slot_bytes)
        if progress.cuts:
            moving |= overlapping(slots, _of_files(vmas), real.slot_bytes)
        found = compare(table, real, shadow=shadow, moving=moving, called=called)
        quiet = not progress.any and not is_torn(vmas)
        return _Reading(begin, quiet, vmas, real, shadow, slots, moving, called, found)

    def _count(self, kind: Kind) -> int:
        return self._following.table.counter(Counter.EVENTS + kind)

    def _mapping_events(self) -> int:
        """Number of events so far that may have changed VMAs or upper levels."""
        return self._following.events - sum(map(self._count, MOVE_NO_MAPPING))
