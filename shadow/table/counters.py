# SPDX-License-Identifier: GPL-2.0-only
"""The counters of a shadow page table."""

from enum import IntEnum

from shadow.policy import POLICIES

__all__ = ("AREA_SIZE", "Counter")

_P = len(POLICIES)


class Counter(IntEnum):
    """Places in `State.counters` (int64)."""

    TABLES_USED = 0
    """Upper tables ever used, including table 0."""
    TABLES_FREE = 1
    RECORDS_USED = 2
    RECORDS_FREE = 3
    VMAS = 4
    PENDING = 5
    LEVELS = 6
    RUNNING = 7
    """The policy of the kernel that produced the events."""
    THP = 8
    """Where anonymous faults may be huge: 0 never, 1 in VM_HUGEPAGE VMAs, 2 everywhere."""
    VMAS_KNOWN = 9
    """0 while no VMA is known; every fault and zap then takes effect."""
    NOW = 10
    """Time of the newest event, ns."""
    BRK = 11
    ANON_VMAS = 12
    """The highest anon_vma number in use."""
    FILES = 13
    """The number of identities given to file mappings."""
    REFS = 14
    PMD_PAGES = 15
    PUD_PAGES = 16
    P4D_PAGES = 17
    DEPOSITS = 18
    HUGE = 19
    NO_EFFECT = 20
    """Faults outside all VMAs or against their protection, which cause a signal and no entry."""
    LOST = 21
    UNMAPPED = 22
    """PTE pages that free_pgtables freed."""
    LOCK_FUTURE = 23
    POSTED_SWITCH_BACK = 24
    """1: pte_ref goes back to percpu mode after a failed attempt, as in the posted RFC."""
    PAGES_ALWAYS = 25
    """The sum of the sizes of multi-size THP in pages, each a power of two."""
    PAGES_MADVISE = 26
    """The same for sizes in VM_HUGEPAGE VMAs only."""
    GUARDS = 27
    FILLED = 28
    """Slots that calls have filled lately (`shadow.table.fills`)."""
    FILLED_AT = 29
    """The number of events at the last update of FILLED."""
    FILLS_MOST = 30
    """The limit on FILLED."""
    REFUSED = 31
    """1: the loop stopped at an event that would exceed FILLS_MOST."""
    TABLES = 32
    EMPTY = TABLES + _P
    FREED = EMPTY + _P
    REALLOCATED = FREED + _P
    ATTEMPTS = REALLOCATED + _P
    PEAK = ATTEMPTS + _P
    SWITCHES = PEAK + _P
    MERGE_ANY = SWITCHES + 1
    """1: KSM may merge all private memory (PR_SET_MEMORY_MERGE)."""
    INFERRED = MERGE_ANY + 1
    """The part of FREED inferred from readings, because no event showed what emptied the pages."""
    CALL = INFERRED + _P
    """The current event: its code (`shadow.table.origin_codes`), thread, and length."""
    CALL_TID = CALL + 1
    CALL_LENGTH = CALL + 2
    EVENTS = CALL + 3
    """Events by kind, 32 places."""
    SIZE = EVENTS + 32


AREA_SIZE = _P + 1
"""Size of `State.area`: per policy PTE pages x ns up to NOW, and last the ns observed (float64)."""
