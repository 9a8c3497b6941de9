# SPDX-License-Identifier: GPL-2.0-only
"""How many PTE pages of a mapping go if it has huge pages, and leaf PMDs in their place."""

from math import ceil, floor

from shadow.mappings import MappingUse

__all__ = ("huge_page_savings",)


def huge_page_savings(use: MappingUse) -> tuple[int, int]:
    """The least and the most PTE pages that go.

    At least those of slots that lie whole inside the mapping go: it is charged all of such a
    PTE page. At most all go that have an entry of it: at the two ends of each VMA others may
    share one, and those stay unless the others lie elsewhere then.
    """
    ends = 2 * use.mappings
    return max(ceil(use.pte_pages) - ends, 0), floor(use.pte_pages) + ends
