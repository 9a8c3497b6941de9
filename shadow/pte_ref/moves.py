# SPDX-License-Identifier: GPL-2.0-only
"""move_page_tables: how mremap moves page tables and entries to another address.

Source: mm/mremap.c (move_page_tables, try_realign_addr, get_old_pud, move_normal_pud,
move_normal_pmd, move_ptes).
"""

from shadow.geometry import PAGE, SLOT
from shadow.policy import Policy
from shadow.pte_ref.tables import GIB, Tables
from shadow.pte_ref.vmas import Vmas

__all__ = ("move_page_tables",)


def move_page_tables(tables: Tables, vmas: Vmas, pages: range, by: int) -> None:
    """Move the tables and entries of `pages` by `by` pages; the VMA at the target exists already.

    Where both sides are aligned and the target has no table, this moves whole PMD pages and
    PTE pages. Elsewhere it moves entry by entry.
    """
    at, end, by = pages.start * PAGE, pages.stop * PAGE, by * PAGE
    reaches_next = at % SLOT and by % SLOT == 0 and end - at >= SLOT - at % SLOT
    if reaches_next and _begins(vmas, at) and _begins(vmas, at + by):  # try_realign_addr
        at -= at % SLOT
    there = tables.upper[Policy.NONE]
    while at < end:
        to_gib = min(GIB - at % GIB, GIB - (at + by) % GIB)
        if (2, at // GIB * GIB) not in there:
            at += to_gib
        elif to_gib == GIB <= end - at and (2, at + by) not in there:
            tables.move_pud_entry(at, at + by)
            at += GIB
        else:
            step = min(SLOT - at % SLOT, SLOT - (at + by) % SLOT, end - at)
            tables.move(at // PAGE, (at + by) // PAGE, step // PAGE)
            at += step


def _begins(vmas: Vmas, address: int) -> bool:
    """can_align_down: a VMA begins here, and no other VMA precedes it in its slot."""
    vma = vmas.at(address // PAGE)
    if vma is None or vma.start != address // PAGE:
        return False
    return not vmas.over(address // SLOT * SLOT // PAGE, address // PAGE)
