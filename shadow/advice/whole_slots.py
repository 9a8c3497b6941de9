# SPDX-License-Identifier: GPL-2.0-only
"""How many PTE pages of a mapping would be leaf PMDs if it had huge pages."""

from math import ceil, floor

from shadow.mappings import MappingUse

__all__ = ("whole_slots",)


def whole_slots(use: MappingUse) -> tuple[int, int]:
    """The least and the most PTE pages in slots that lie whole inside the mapping.

    A mapping is charged a whole PTE page for each such slot. Only the two slots at the ends of
    each of its VMAs can be others, and it is charged at most one PTE page for each of these.
    """
    most = floor(use.pte_pages)
    return min(max(ceil(use.pte_pages) - 2 * use.mappings, 0), most), most
