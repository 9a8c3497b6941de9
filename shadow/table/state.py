# SPDX-License-Identifier: GPL-2.0-only
"""The arrays of a shadow page table, and how they grow.

The upper levels are one array of tables. An entry of `child` is the number of
the table below, or at the PMD level the number of a PTE page record; 0 means none. Table 0
is the PGD, and record 0 is never used. Free lists recycle records and tables. All
references are numbers, so that longer arrays can replace the arrays between events.

A record lives as long as the policy `none` keeps its PTE page, which is longer than under
the other policies; `live` has the policies with the PTE page. A record whose `huge` is not
0 stands for a leaf PMD and has no PTE page.
"""

from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shadow.geometry import ENTRY_BYTES, Geometry
from shadow.table.counters import AREA_SIZE, Counter
from shadow.table.vma import VMA

__all__ = (
    "HUGE_ANON",
    "HUGE_FILE",
    "HugePages",
    "Pending",
    "SHAPE",
    "State",
    "grown",
    "new_state",
    "page_size_of",
    "record_type",
    "upper_type",
)

HUGE_ANON = 1
"""Value of `huge`: an anonymous THP, which keeps a deposited PTE page."""
HUGE_FILE = 2
"""Value of `huge`: a file or shmem THP, for which x86 deposits no PTE page."""


class Pending(IntEnum):
    """Columns of `State.pending`, which has the calls that have not returned yet."""

    TID = 0
    KIND = 1
    START = 2
    END = 3
    AUX = 4
    COLUMNS = 5


_PENDING_ROWS = 64


_WORD_BITS = 64
_RECORD = (
    ("slot", "<i8"),  # first address; -1: the record is free
    ("emptied", "<i8"),  # when the last entry went, ns; 0: never
    ("refs", "<i2"),  # entries that are not none
    ("lazies", "<i2"),  # entries under MADV_FREE
    ("live", "u1"),  # bit p: policy p has this PTE page
    ("atomic", "u1"),  # 1: the RFC's pte_ref is in atomic mode
    ("huge", "u1"),  # 0, HUGE_ANON or HUGE_FILE
    ("made_call", "u1"),  # event that created it, see `shadow.table.origin_codes`
    ("made", "<i8"),  # time of creation, ns
    ("made_by", "<i4"),  # thread that created it; 0: unknown
    ("emptied_by", "<i4"),  # thread that cleared the last entry; 0: unknown
    ("emptied_pages", "<u4"),  # size of its call, pages
    ("emptied_call", "u1"),
    ("padding", "u1", 3),
)
_UPPER = (("used", "<i4"), ("real", "<i4"))


@cache
def record_type(entries: int) -> np.dtype[np.void]:
    """The type of a PTE page with so many entries."""
    words = entries // _WORD_BITS
    maps = (
        ("present", "<u8", words),  # the map of entries that are not none
        ("lazy", "<u8", words),  # entries under MADV_FREE
    )
    return np.dtype([*maps, *_RECORD])


def page_size_of(records: npt.NDArray[Any]) -> int:
    """Bytes of a page, by the width of the maps of PTE pages."""
    return int(records.dtype["present"].shape[0]) * _WORD_BITS * ENTRY_BYTES


@cache
def upper_type(entries: int) -> np.dtype[np.void]:
    """The type of a PMD, PUD or P4D page, or the PGD; `used`: entries that are not none.

    `real` is 1 if the running kernel has the table. Other tables are here because another policy
    still keeps an empty PTE page below them.
    """
    return np.dtype([("child", "<u4", entries), *_UPPER])


@dataclass(frozen=True, eq=False)
class State:
    """One address space.

    Compiled functions pass each other a pointer to `words`, since the descriptions of nine arrays
    take sixty words at each call (`shadow.machine_code.state_type`). The widths of the records are
    part of the type of a State, and so are the numbers of `SHAPE`: they are constants in machine
    code, of which each width has its own.
    """

    upper: npt.NDArray[np.void]
    """(tables,) of `upper_type`"""
    upper_pool: npt.NDArray[np.uint32]
    """(tables,) stack of free numbers of `upper`"""
    records: npt.NDArray[np.void]
    """(records,) of `record_type`"""
    record_pool: npt.NDArray[np.uint32]
    """(records,) stack of free numbers of `records`"""
    vmas: npt.NDArray[np.void]
    """(vmas,) of VMA"""
    pending: npt.NDArray[np.int64]
    """(64, 5) see `Pending`"""
    guards: npt.NDArray[np.int64]
    """(guards, 2) ranges of guard markers, sorted: first address, end"""
    counters: npt.NDArray[np.int64]
    """see `Counter`"""
    area: npt.NDArray[np.float64]
    """see `AREA_SIZE`"""
    words: npt.NDArray[np.int64] = field(init=False, repr=False)
    """(9, 2) the address and the length of each array, in this order"""
    pointer: int = field(init=False, repr=False)
    """the address of `words`"""

    def __post_init__(self) -> None:
        """Write down where the arrays are."""
        words = np.array([(array.ctypes.data, len(array)) for array in self.arrays()], np.int64)
        object.__setattr__(self, "words", words)
        object.__setattr__(self, "pointer", words.ctypes.data)

    def __reduce__(self) -> tuple[type["State"], tuple[npt.NDArray[Any], ...]]:
        """A copy has addresses of its own."""
        return State, self.arrays()

    @property
    def entries(self) -> int:
        """Entries of a PTE page."""
        return int(self.upper.dtype["child"].shape[0])

    @property
    def map_words(self) -> int:
        """64-bit words in the map of one PTE page."""
        return self.entries // _WORD_BITS

    @property
    def entry_bits(self) -> int:
        """Bits of an address that a PTE page resolves."""
        return self.entries.bit_length() - 1

    @property
    def page(self) -> int:
        """Bytes of a page, which the entries of a table fill."""
        return self.entries * ENTRY_BYTES

    @property
    def page_shift(self) -> int:
        """Bits of an address within a page."""
        return self.page.bit_length() - 1

    @property
    def slot(self) -> int:
        """Bytes that one PTE page maps."""
        return self.page * self.entries

    @property
    def slot_shift(self) -> int:
        """Bits of an address within a slot."""
        return self.page_shift + self.entry_bits

    @property
    def pmd_span(self) -> int:
        """Bytes that one PMD page maps."""
        return self.slot * self.entries

    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """The arrays, in the order of the fields."""
        return tuple(getattr(self, each.name) for each in fields(self) if each.init)


class HugePages(NamedTuple):
    """The settings under which an anonymous fault maps more than a page.

    Attributes:
        thp: whole slots: 0 never, 1 in VMAs under MADV_HUGEPAGE, 2 wherever not forbidden.
        always: sum of the multi-size THP sizes in pages that are used wherever not forbidden.
        madvise: sum of the sizes in pages that are used under MADV_HUGEPAGE only.
    """

    thp: int = 0
    always: int = 0
    madvise: int = 0


SHAPE = (
    *("entries", "map_words", "entry_bits", "page", "page_shift"),
    *("slot", "slot_shift", "pmd_span"),
)
"""The numbers of a `State` that depend on its geometry alone."""


def new_state(geometry: Geometry, running: int, huge: HugePages) -> State:
    """Create an address space about which nothing is known yet."""
    counters = np.zeros(Counter.SIZE, np.int64)
    counters[Counter.LEVELS] = geometry.levels
    counters[Counter.RUNNING] = running
    counters[Counter.THP] = huge.thp
    counters[Counter.PAGES_ALWAYS] = huge.always
    counters[Counter.PAGES_MADVISE] = huge.madvise
    counters[Counter.TABLES_USED] = 1
    counters[Counter.RECORDS_USED] = 1
    return State(
        upper=np.zeros(8, upper_type(geometry.entries)),
        upper_pool=np.zeros(8, np.uint32),
        records=np.zeros(64, record_type(geometry.entries)),
        record_pool=np.zeros(64, np.uint32),
        vmas=np.zeros(64, VMA),
        pending=np.zeros((_PENDING_ROWS, Pending.COLUMNS), np.int64),
        guards=np.zeros((4, 2), np.int64),
        counters=counters,
        area=np.zeros(AREA_SIZE, np.float64),
    )


def _longer(array: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    if len(array) >= count:
        return array
    new = np.zeros((max(count, len(array) * 5 // 4), *array.shape[1:]), array.dtype)
    new[: len(array)] = array
    return new


def grown(state: State, tables: int = 0, records: int = 0, vmas: int = 0, guards: int = 0) -> State:
    """The same address space with arrays of at least these lengths.

    An array that is long enough stays. A new array is at least a quarter longer, so that
    growing costs a constant share of time and memory.
    """
    return replace(
        state,
        upper=_longer(state.upper, tables),
        upper_pool=_longer(state.upper_pool, tables),
        records=_longer(state.records, records),
        record_pool=_longer(state.record_pool, records),
        vmas=_longer(state.vmas, vmas),
        guards=_longer(state.guards, guards),
    )
