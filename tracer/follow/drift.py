# SPDX-License-Identifier: GPL-2.0-only
"""Decide when to read a process again although no event asks for it.

Some changes of page tables have no event: direct I/O and io_uring, userfaultfd of another
process, truncation by another process, guests of KVM, reclaim. The kernel's counters show them:
VmPTE diverges from the page tables of the shadow, or the resident and swapped pages diverge
from its entries. VmPTE is exact. VmRSS is exact if the kernel sums its per-CPU parts (since
v6.17, and in stable kernels with "mm: fix the inaccurate memory statistics issue for users");
a test at the start finds out. VmRSS does not count the zero page, which is an entry.
"""

import mmap
import os
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from tracer.follow.in_flight import MARGIN_NS
from tracer.procfs import memory_status

__all__ = ("Apart", "Drift", "ReadingBudget", "rss_error")

_TRIED_PAGES = 16
_PAGES_PER_CPU = 64
"""Pages that a per-CPU counter may hold back (mm_struct.rss_stat, percpu_counter_batch)."""
_PATIENCE, _MOST_PATIENCE = 2, 64
"""Consecutive looks that must agree before a busy process is read; doubles after a useless one."""
_SHARE = 0.05
"""Share of one CPU that drift readings of one process may use."""
_SAVED_NS = 500_000_000


@cache
def rss_error() -> int:
    """Possible error of VmRSS in pages; 0: it counts each page of a test at once."""
    with mmap.mmap(-1, _TRIED_PAGES * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.madvise(mmap.MADV_NOHUGEPAGE)
        counts = []
        for page in range(_TRIED_PAGES):
            area[page * mmap.PAGESIZE] = 1
            counts.append(memory_status("self").mapped)
    exact = sum(b - a == 1 for a, b in pairwise(counts))
    # The interpreter may touch other pages meanwhile.
    return 0 if exact > _TRIED_PAGES // 2 else _PAGES_PER_CPU * (os.cpu_count() or 1)


@dataclass(frozen=True)
class Apart:
    """The kernel's counters less those of the shadow, in pages.

    Attributes:
        page_tables: difference to VmPTE.
        entries: difference to VmRSS and VmSwap.
    """

    page_tables: int
    entries: int


class ReadingBudget:
    """The CPU budget of drift readings: a share of one CPU, which can be saved up.

    Args:
        share: share of one CPU.
        saved_ns: the most that can be saved up and spent at once.
        of_all: the common budget of all processes; None: there is none.
    """

    def __init__(
        self,
        share: float = _SHARE,
        saved_ns: int = _SAVED_NS,
        of_all: "ReadingBudget | None" = None,
    ) -> None:
        self._share, self._most_ns, self._of_all = share, saved_ns, of_all
        self._left_ns, self._since_ns = float(saved_ns), 0

    def may_begin(self, now_ns: int) -> bool:
        """Whether some of the budget is left."""
        gained = (now_ns - self._since_ns) * self._share
        self._left_ns = min(self._left_ns + gained, self._most_ns)
        self._since_ns = now_ns
        return self._left_ns > 0 and (self._of_all is None or self._of_all.may_begin(now_ns))

    def took(self, ns: int) -> None:
        """Subtract the duration of a reading."""
        self._left_ns -= ns
        if self._of_all:
            self._of_all.took(ns)


class Drift:
    """Evaluates looks at one process. All times are CLOCK_MONOTONIC, ns."""

    def __init__(self) -> None:
        self._rest = Apart(0, 0)
        self._last: tuple[Apart, int] | None = None
        self._suspected, self._patience = 0, _PATIENCE
        self.wanted = False
        """Whether the process must be read."""

    @property
    def suspected(self) -> bool:
        """Whether another look must follow soon."""
        return self.wanted or self._suspected > 0

    def rest(self, apart: Apart) -> None:
        """Note that everything was just read: a difference that remains has another reason."""
        self._rest, self._last = apart, None
        self._suspected, self.wanted = 0, False

    def learn(self, *, in_vain: bool) -> None:
        """Note whether a requested reading was useless."""
        self._patience = min(self._patience * 2, _MOST_PATIENCE) if in_vain else _PATIENCE

    def look(self, apart: Apart, *, events: int, newest: int, since: int, refs: int) -> None:
        """Evaluate a look.

        If no event occurs between two looks, a change between them has no event. If events occur,
        a difference counts only when it persists, because a change and its event are not
        simultaneous.

        Args:
            apart: the differences.
            events: number of events so far.
            newest: time of the newest event.
            since: start of the look.
            refs: number of entries in the shadow.
        """
        last, self._last = self._last, None
        if since - newest > MARGIN_NS:
            self._last = apart, events
        if last and last[1] == events and self._last:
            entries = abs(apart.entries - last[0].entries)
            if apart.page_tables != last[0].page_tables or entries > rss_error():
                self.wanted = True
        tolerance = max(rss_error(), refs // 100)
        off = (
            apart.page_tables != self._rest.page_tables
            or abs(apart.entries - self._rest.entries) > tolerance
        )
        self._suspected = self._suspected + 1 if off else 0
        self.wanted = self.wanted or self._suspected >= self._patience
