# SPDX-License-Identifier: GPL-2.0-only
"""Replaces the content of the shadow by a reading of the real page tables.

`shadow.table.seed` is the compiled part.
"""

import numpy as np
import numpy.typing as npt

from shadow.table.clock import advance
from shadow.table.contents import huge_pages, pte_pages, upper_bases
from shadow.table.counters import Counter
from shadow.table.fills import drain
from shadow.table.growing import FIRST_GROWTH, GrowingState
from shadow.table.origin import note_reading
from shadow.table.page_set import Pages, Ranges, overlapping
from shadow.table.radix import PMD_LEVEL, PUD_LEVEL
from shadow.table.seed import (
    adopt_guards,
    adopt_huge,
    adopt_pages,
    adopt_upper,
    drop_pages,
    drop_upper_tables,
)

__all__ = ("adopt", "adopt_upper_levels")

_EVERYWHERE = 1 << 62


def adopt(space: GrowingState, real: Pages, now: int) -> None:
    """Adopt a reading of time `now` (ns); see `Table.adopt`."""
    advance(space.state, now)
    note_reading(space.state)
    drain(space.state, len(real.slots), real.within is None)
    known = pte_pages(space.state, space.counter(Counter.RUNNING))
    if not real.exact:
        known = known[known["refs"] > 0]
    before = np.concatenate([known["slot"], huge_pages(space.state)["slot"]])
    gone = np.setdiff1d(before, np.concatenate([real.slots, real.huge]))
    if real.within:
        gone = gone[overlapping(gone, real.within, space.state.slot)]
    drop_pages(space.state, gone, real.exact)
    if not len(known):  # a seed: exactly as many as exist, not a quarter more
        used = space.counter(Counter.RECORDS_USED)
        space.lengthen(records=used + len(real.slots) + FIRST_GROWTH)
    space.run(
        lambda first: adopt_pages(space.state, real.slots, real.present, first), len(real.slots)
    )
    space.run(
        lambda first: adopt_huge(space.state, real.huge, real.huge_kind, first), len(real.huge)
    )
    if real.guards is not None:
        _adopt_guards(space, real.guards, real.within)
    adopt_upper_levels(space, real.pmd_bases, real.pud_bases)


def _adopt_guards(space: GrowingState, guards: Ranges, within: Ranges | None) -> None:
    """Adopt the guard markers of the ranges that were read."""
    if within is None:
        within = np.zeros(1, np.int64), np.full(1, _EVERYWHERE)
    more = len(guards[0]) + len(within[0]) + FIRST_GROWTH
    space.lengthen(guards=space.counter(Counter.GUARDS) + more)
    adopt_guards(space.state, *within, *guards)


def adopt_upper_levels(
    space: GrowingState,
    pmd_bases: npt.NDArray[np.int64] | None,
    pud_bases: npt.NDArray[np.int64] | None,
) -> None:
    """Adopt the PMD and PUD pages, if they were read; see `Pages`."""
    for bases, level in ((pmd_bases, PMD_LEVEL), (pud_bases, PUD_LEVEL)):
        if bases is not None:
            _adopt_level(space, bases, level)


def _adopt_level(space: GrowingState, bases: npt.NDArray[np.int64], level: int) -> None:
    gone = np.setdiff1d(upper_bases(space.state, level), bases)
    drop_upper_tables(space.state, gone, level)
    space.run(lambda first: adopt_upper(space.state, bases, level, first), len(bases))
