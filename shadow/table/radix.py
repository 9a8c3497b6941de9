# SPDX-License-Identifier: GPL-2.0-only
"""The upper levels: find, create and free PTE page records and tables by address.

The walk is that of the kernel: PGD, (P4D,) PUD, PMD, each indexed by the same number of bits of
the address, 9 with 4 KiB pages; the PGD may use fewer. `next_slot` skips absent subtrees at every
level, so the cost of a range depends on its populated slots, not on its length.
"""

from shadow.table.compiled import compiled, inlined
from shadow.table.counters import Counter
from shadow.table.pte_pages import drop_all_policies, forget_entries
from shadow.table.state import State

__all__ = (
    "PMD_LEVEL",
    "PUD_LEVEL",
    "attach_record",
    "create_upper",
    "detach_record",
    "drop_empty_upper",
    "drop_upper",
    "find",
    "find_or_create",
    "free_record",
    "has_room",
    "next_slot",
    "next_table",
    "table_span",
    "upper_table",
)

PTE_LEVEL = 1
PMD_LEVEL = 2
PUD_LEVEL = 3


@inlined
def _shift(s: State, level: int) -> int:
    """Bits of an address below the index of a table of this level; PTE is 1."""
    return s.page_shift + s.entry_bits * (level - 1)


@inlined
def _index(s: State, address: int, level: int) -> int:
    return (address >> _shift(s, level)) & (s.entries - 1)


@inlined
def table_span(s: State, level: int) -> int:
    """Bytes under one table of this level; PMD is 2."""
    return 1 << _shift(s, level + 1)


@compiled
def _count_upper(s: State, level: int, change: int) -> None:
    if level == PMD_LEVEL:
        s.counters[Counter.PMD_PAGES] += change
    elif level == PUD_LEVEL:
        s.counters[Counter.PUD_PAGES] += change
    else:
        s.counters[Counter.P4D_PAGES] += change


@compiled
def _new_table(s: State) -> int:
    if s.counters[Counter.TABLES_FREE]:
        s.counters[Counter.TABLES_FREE] -= 1
        return s.upper_pool[s.counters[Counter.TABLES_FREE]]
    table = s.counters[Counter.TABLES_USED]
    s.counters[Counter.TABLES_USED] += 1
    return table


@compiled
def upper_table(s: State, address: int, target: int) -> int:
    """The table of level `target` over `address`, or 0 if there is none."""
    table = 0
    for level in range(s.counters[Counter.LEVELS], target, -1):
        table = s.upper[table].child[_index(s, address, level)]
        if table == 0:
            return 0
    return table


@compiled
def find(s: State, address: int) -> int:
    """The record that serves `address`, or 0."""
    return upper_table(s, address, PTE_LEVEL)


@compiled
def create_upper(s: State, address: int, target: int, real: bool) -> int:
    """The table of level `target` over `address`; creates it and those above if absent.

    With `real`, the running kernel has these tables too.
    """
    table = 0
    for level in range(s.counters[Counter.LEVELS], target, -1):
        index = _index(s, address, level)
        below = s.upper[table].child[index]
        if below == 0:
            below = _new_table(s)
            s.upper[table].child[index] = below
            s.upper[table].used += 1
        if real and s.upper[below].real == 0:
            s.upper[below].real = 1
            _count_upper(s, level - 1, 1)
        table = below
    return table


@compiled
def find_or_create(s: State, address: int, real: bool) -> int:
    """The record that serves `address`; a new one belongs to no policy yet."""
    pmd = create_upper(s, address, PMD_LEVEL, real)
    index = _index(s, address, PMD_LEVEL)
    record = s.upper[pmd].child[index]
    if record == 0:
        if s.counters[Counter.RECORDS_FREE]:
            s.counters[Counter.RECORDS_FREE] -= 1
            record = s.record_pool[s.counters[Counter.RECORDS_FREE]]
        else:
            record = s.counters[Counter.RECORDS_USED]
            s.counters[Counter.RECORDS_USED] += 1
        s.records[record].slot = address & -s.slot
        s.upper[pmd].child[index] = record
        s.upper[pmd].used += 1
    return record


@compiled
def detach_record(s: State, record: int) -> None:
    """Clear the PMD entry of a record without freeing it (a move)."""
    pmd = upper_table(s, s.records[record].slot, PMD_LEVEL)
    s.upper[pmd].child[_index(s, s.records[record].slot, PMD_LEVEL)] = 0
    s.upper[pmd].used -= 1


@compiled
def attach_record(s: State, record: int, address: int) -> None:
    """Put a detached record into the empty PMD entry of `address`."""
    pmd = create_upper(s, address, PMD_LEVEL, False)
    s.upper[pmd].child[_index(s, address, PMD_LEVEL)] = record
    s.upper[pmd].used += 1
    s.records[record].slot = address & -s.slot


@compiled
def free_record(s: State, record: int) -> None:
    """The PMD entry becomes none and the record is free for reuse."""
    detach_record(s, record)
    forget_entries(s, record)
    drop_all_policies(s, record)
    s.records[record].atomic = 0
    s.records[record].huge = 0
    s.records[record].slot = -1
    s.record_pool[s.counters[Counter.RECORDS_FREE]] = record
    s.counters[Counter.RECORDS_FREE] += 1


@compiled
def next_table(s: State, address: int, end: int, target: int) -> int:
    """First address of the first table of level `target` at or after `address`'s.

    Returns -1 if there is none below `end`. Start from the first address of such a table.
    """
    levels = s.counters[Counter.LEVELS]
    while address < end:
        table = 0
        level = levels
        while level > target:
            index = _index(s, address, level)
            below = s.upper[table].child[index]
            if below == 0:
                break
            table = below
            level -= 1
        if level == target:
            return address
        # Nothing is below this entry: go on at the next entry that is not none,
        # or past the table.
        index = _index(s, address, level) + 1
        while index < s.entries and s.upper[table].child[index] == 0:
            index += 1
        span = _shift(s, level)
        address = ((address >> (span + s.entry_bits)) << (span + s.entry_bits)) + (index << span)
    return -1


@compiled
def next_slot(s: State, address: int, end: int) -> int:
    """First slot with a record at or after `address`; -1 if there is none below `end`."""
    return next_table(s, address, end, PTE_LEVEL)


@inlined
def has_room(s: State, records: int, upper: int) -> bool:
    """Whether the arrays have room for this many more records and upper tables."""
    return s.counters[Counter.RECORDS_USED] + records <= len(s.records) and s.counters[
        Counter.TABLES_USED
    ] + upper <= len(s.upper)


@compiled
def _free_table(s: State, above: int, address: int, level: int) -> None:
    """Free the table of `level` over `address`, and clear its entry in `above`."""
    table = s.upper[above].child[_index(s, address, level + 1)]
    s.upper[above].child[_index(s, address, level + 1)] = 0
    s.upper[above].used -= 1
    _count_upper(s, level, -s.upper[table].real)
    s.upper[table].real = 0
    s.upper_pool[s.counters[Counter.TABLES_FREE]] = table
    s.counters[Counter.TABLES_FREE] += 1


@compiled
def drop_upper(s: State, address: int, level: int) -> None:
    """Record that the running kernel lacks the table of `level` over `address`."""
    table = upper_table(s, address, level)
    if table and s.upper[table].used == 0:
        _free_table(s, upper_table(s, address, level + 1), address, level)
    elif table:
        _count_upper(s, level, -s.upper[table].real)
        s.upper[table].real = 0


@compiled
def drop_empty_upper(s: State, address: int, floor: int, ceiling: int) -> None:
    """Free the upper tables over `address` that free_pgd_range would free.

    free_pgd_range frees a table if its span lies within [floor, ceiling), from the end of the
    previous VMA to the start of the next one. Nothing is then left below it (mm/memory.c,
    free_pmd_range and free_pud_range).
    """
    for level in range(PMD_LEVEL, s.counters[Counter.LEVELS]):
        above = upper_table(s, address, level + 1)
        if above == 0 and level + 1 < s.counters[Counter.LEVELS]:
            continue
        span = _shift(s, level + 1)
        first = (address >> span) << span
        if first < floor or first + (1 << span) > ceiling:
            return
        table = s.upper[above].child[_index(s, address, level + 1)]
        if table == 0 or s.upper[table].used != 0:
            continue
        _free_table(s, above, address, level)
