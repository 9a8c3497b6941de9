# SPDX-License-Identifier: GPL-2.0-only
"""The shape of a page table: spans of each level and the arithmetic on them.

The constants are those of x86-64 with 4 KiB pages, which the shadow models:
every table has 512 entries of 8 bytes, so one level resolves 9 bits. A PTE page
serves one *slot* of 2 MiB, a PMD page 1 GiB, a PUD page 512 GiB
(Documentation/arch/x86/x86_64/mm.rst). With 5 levels a P4D table stands between
PUD and PGD; its pages are not part of VmPTE.

All sizes are in bytes and all addresses are user addresses, which fit in a
signed 64-bit integer on every level count.

`GEOMETRIES` lists other page tables too, to compute how large they can grow.
"""

from dataclasses import dataclass

__all__ = (
    "ENTRIES",
    "ENTRY_BITS",
    "GEOMETRIES",
    "Geometry",
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


@dataclass(frozen=True)
class Geometry:
    """One layout of page tables. Levels are counted from the PTE pages, which are 1.

    Attributes:
        name: the name in reports.
        page_shift: bits of an address within a page.
        index_bits: bits of an address that each level resolves, PTE first.
        entry_bytes: bytes of an entry.
        user_bytes: the largest user address space.
    """

    name: str
    page_shift: int
    index_bits: tuple[int, ...]
    entry_bytes: int
    user_bytes: int

    @property
    def levels(self) -> int:
        """Levels of tables."""
        return len(self.index_bits)

    @property
    def address_bytes(self) -> int:
        """Bytes that all levels together can address."""
        return 1 << (self.page_shift + sum(self.index_bits))

    @property
    def slot(self) -> int:
        """Bytes that one PTE page maps."""
        return self.span(2)

    def span(self, level: int) -> int:
        """Bytes that one entry of a table of this level maps."""
        return 1 << (self.page_shift + sum(self.index_bits[: level - 1]))

    def table_bytes(self, level: int, space: int) -> int:
        """The largest size in bytes of all tables of this level, for `space` bytes of addresses.

        The size is the number of entries that cover the space, times the size of an entry
        (table "Preface" of the RFC "Try to free user PTE page table pages", patch 18). The
        top level is one table, of which only a part may count; below it tables are whole.
        """
        entries = -(-space // self.span(level))
        if level < self.levels:
            whole = 1 << self.index_bits[level - 1]
            entries = -(-entries // whole) * whole
        return entries * self.entry_bytes


GEOMETRIES = (
    Geometry("x86-32", 12, (10, 10), 4, 3 << 30),
    Geometry("x86-32 PAE", 12, (9, 9, 2), 8, 3 << 30),
    Geometry("x86-64, 4 levels", 12, (9, 9, 9, 9), 8, 1 << 47),
    Geometry("x86-64, 5 levels", 12, (9, 9, 9, 9, 9), 8, 1 << 56),
    Geometry("arm64, 4K pages", 12, (9, 9, 9, 9), 8, 1 << 48),
    Geometry("arm64, 16K pages", 14, (11, 11, 11, 1), 8, 1 << 48),
    Geometry("arm64, 64K pages", 16, (13, 13, 6), 8, 1 << 48),
)
"""x86 on 32 bits has 3 GiB of user space; arm64 has addresses of 48 bits
(Documentation/arch/arm64/memory.rst)."""
