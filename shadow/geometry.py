"""The shape of a page table: spans of each level and the arithmetic on them.

x86-64 with 4 KiB pages: every table has 512 entries of 8 bytes, so one level
resolves 9 bits. A PTE page serves one *slot* of 2 MiB, a PMD page 1 GiB, a PUD
page 512 GiB (Documentation/arch/x86/x86_64/mm.rst). With 5 levels a P4D table
stands between PUD and PGD; its pages are not part of VmPTE.

All sizes are in bytes and all addresses are user addresses, which fit in a
signed 64-bit integer on every level count.
"""

__all__ = (
    "ENTRIES",
    "ENTRY_BITS",
    "PAGE",
    "PAGE_SHIFT",
    "PMD_SPAN",
    "PUD_SPAN",
    "SLOT",
    "SLOT_SHIFT",
    "user_address_limit",
)

PAGE_SHIFT = 12
ENTRY_BITS = 9
PAGE = 1 << PAGE_SHIFT
ENTRIES = 1 << ENTRY_BITS
SLOT_SHIFT = PAGE_SHIFT + ENTRY_BITS
SLOT = 1 << SLOT_SHIFT
"""Bytes that one PTE page maps."""
PMD_SPAN = SLOT << ENTRY_BITS
"""Bytes that one PMD page maps."""
PUD_SPAN = PMD_SPAN << ENTRY_BITS
"""Bytes that one PUD page maps."""


def user_address_limit(levels: int) -> int:
    """First address above user space for a table of `levels` levels.

    The upper half of the addresses belongs to the kernel.
    """
    return 1 << (PAGE_SHIFT + ENTRY_BITS * levels - 1)
