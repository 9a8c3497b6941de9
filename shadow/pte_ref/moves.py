# SPDX-License-Identifier: GPL-2.0-only
"""move_page_tables: how mremap moves page tables and entries to another address.

Source: mm/mremap.c (move_page_tables, try_realign_addr, get_old_pud, move_normal_pud,
move_normal_pmd, move_ptes).
"""

from shadow.geometry import Geometry
from shadow.policy import Policy
from shadow.pte_ref.tables import Tables
from shadow.pte_ref.vmas import Vmas

__all__ = ("move_page_tables",)


def move_page_tables(tables: Tables, vmas: Vmas, pages: range, by: int) -> None:
    """Move the tables and entries of `pages` by `by` pages; the VMA at the target exists already.

    Where both sides are aligned and the target has no table, this moves whole PMD pages and
    PTE pages. Elsewhere it moves entry by entry.
    """
    geometry = tables.geometry
    page, slot, span = geometry.page, geometry.slot, geometry.pmd_span
    at, end, by = pages.start * page, pages.stop * page, by * page
    reaches_next = at % slot and by % slot == 0 and end - at >= slot - at % slot
    begin = _begins(vmas, at, geometry) and _begins(vmas, at + by, geometry)
    if reaches_next and begin:  # try_realign_addr
        at -= at % slot
    there = tables.upper[Policy.NONE]
    while at < end:
        to_next = min(span - at % span, span - (at + by) % span)
        if (2, at // span * span) not in there:
            at += to_next
        elif to_next == span <= end - at and (2, at + by) not in there:
            tables.move_pud_entry(at, at + by)
            at += span
        else:
            step = min(slot - at % slot, slot - (at + by) % slot, end - at)
            tables.move(at // page, (at + by) // page, step // page)
            at += step


def _begins(vmas: Vmas, address: int, geometry: Geometry) -> bool:
    """can_align_down: a VMA begins here, and no other VMA precedes it in its slot."""
    page = geometry.page
    vma = vmas.at(address // page)
    if vma is None or vma.start != address // page:
        return False
    return not vmas.over((address & -geometry.slot) // page, address // page)
