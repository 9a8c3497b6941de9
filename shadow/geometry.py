# SPDX-License-Identifier: GPL-2.0-only
"""The shape of a page table: spans of each level and the arithmetic on them.

A `Geometry` describes the page tables of one architecture, page size and size of the address
space. `MODELLED` has those of which ptescope keeps a shadow. With 4 KiB pages every table has 512
entries of 8 bytes, so one level resolves 9 bits: a PTE page serves one *slot* of 2 MiB, a PMD
page 1 GiB, a PUD page 512 GiB (Documentation/arch/x86/x86_64/mm.rst). With 64 KiB pages, a table
has 8,192 entries, and a slot is 512 MiB (Documentation/arch/arm64/memory.rst). With 5 levels, a
P4D table stands between PUD and PGD; its pages are not part of VmPTE.

All sizes are in bytes and all addresses are user addresses, which fit in a signed 64-bit integer
in every geometry.
"""

from dataclasses import dataclass
from functools import cached_property

__all__ = (
    "ARM64",
    "ENTRY_BYTES",
    "GEOMETRIES",
    "MODELLED",
    "X86_64",
    "X86_64_5",
    "Geometry",
    "entries_of_page",
    "find_geometry",
    "geometry_of",
    "geometry_of_page",
)

ENTRY_BYTES = 8
"""The size of an entry in every geometry of `MODELLED`; the entries of a table fill a page."""


@dataclass(frozen=True)
class Geometry:
    """One layout of page tables. Levels are counted from the PTE pages, which are 1.

    Attributes:
        arch: the architecture, as in traces.
        name: the name in reports.
        page_shift: bits of an address within a page.
        index_bits: bits of an address that each level resolves, PTE first.
        entry_bytes: bytes of an entry.
        user_bytes: the size of the user address space, which begins at 0.
    """

    arch: str
    name: str
    page_shift: int
    index_bits: tuple[int, ...]
    entry_bytes: int
    user_bytes: int

    @cached_property
    def levels(self) -> int:
        """Levels of tables."""
        return len(self.index_bits)

    @cached_property
    def page(self) -> int:
        """Bytes of a page, and of a page table of any level below the top."""
        return 1 << self.page_shift

    @cached_property
    def entry_bits(self) -> int:
        """Bits of an address that a PTE page resolves, and every other level below the top."""
        return self.index_bits[0]

    @cached_property
    def entries(self) -> int:
        """Entries of a PTE page."""
        return 1 << self.entry_bits

    @cached_property
    def slot_shift(self) -> int:
        """Bits of an address within a slot."""
        return self.page_shift + self.entry_bits

    @cached_property
    def slot(self) -> int:
        """Bytes that one PTE page maps."""
        return self.span(2)

    @cached_property
    def pmd_span(self) -> int:
        """Bytes that one PMD page maps."""
        return self.span(3)

    @cached_property
    def pud_span(self) -> int:
        """Bytes that one PUD page maps."""
        return self.pmd_span << self.entry_bits

    @property
    def has_puds(self) -> bool:
        """Whether PUD pages stand between the PMD pages and the top."""
        return self.levels > 3

    @property
    def sparse_below(self) -> int:
        """A PTE page with at least one entry, but fewer than this, is sparse: 32 of 512."""
        return self.entries >> 4

    @property
    def page_kib(self) -> int:
        """KiB of a page."""
        return self.page >> 10

    @property
    def page_text(self) -> str:
        """The size of a page in words."""
        return f"{self.page >> 10} KiB"

    @property
    def slot_text(self) -> str:
        """The size of a slot in words."""
        return f"{self.slot >> 20} MiB"

    @property
    def pmd_text(self) -> str:
        """The size of what a PMD page maps in words."""
        gib = self.pmd_span >> 30
        return f"{gib} GiB" if gib < 1024 else f"{gib >> 10} TiB"

    @property
    def user_address_bits(self) -> int:
        """Bits of a user address."""
        return self.user_bytes.bit_length() - 1

    @property
    def address_bytes(self) -> int:
        """Bytes that all levels together can address."""
        return 1 << (self.page_shift + sum(self.index_bits))

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


def entries_of_page(page: int) -> int:
    """Entries of a table that fills a page of this size, in every geometry of `MODELLED`."""
    return page // ENTRY_BYTES


X86_64 = Geometry("x86-64", "x86-64, 4 levels", 12, (9, 9, 9, 9), 8, 1 << 47)
"""The upper half of the addresses belongs to the kernel."""
X86_64_5 = Geometry("x86-64", "x86-64, 5 levels", 12, (9, 9, 9, 9, 9), 8, 1 << 56)


def _arm64(page_shift: int, bits: int) -> Geometry:
    """The tables of arm64 for user addresses of so many bits: the kernel has tables of its own."""
    each = page_shift - 3
    levels, rest = divmod(bits - page_shift, each)
    name = f"arm64, {1 << (page_shift - 10)}K pages" + ("" if bits == 48 else f", {bits} bits")
    index_bits = (each,) * levels + ((rest,) if rest else ())
    return Geometry("arm64", name, page_shift, index_bits, ENTRY_BYTES, 1 << bits)


ARM64 = tuple(_arm64(*each) for each in ((12, 39), (12, 48), (14, 47), (14, 48), (16, 48)))
"""CONFIG_ARM64_VA_BITS: 39 of small machines, 47 and 48; 52 bits are not modelled."""
MODELLED = (X86_64, X86_64_5, *ARM64)
"""The page tables of which ptescope keeps a shadow."""
GEOMETRIES = (
    Geometry("x86-32", "x86-32", 12, (10, 10), 4, 3 << 30),
    Geometry("x86-32", "x86-32 PAE", 12, (9, 9, 2), 8, 3 << 30),
    *MODELLED,
)
"""All page tables whose largest sizes ptescope computes; x86-32 has 3 GiB of user space."""


def geometry_of(entries: int) -> Geometry:
    """The first geometry of `MODELLED` whose PTE pages have so many entries."""
    return next(each for each in MODELLED if each.entries == entries)


def geometry_of_page(page: int) -> Geometry:
    """The first geometry of `MODELLED` with pages of this size; machine code serves all of them."""
    return geometry_of(entries_of_page(page))


def find_geometry(
    arch: str, page_size: int, levels: int, user_address_bits: int | None = None
) -> Geometry:
    """The geometry of a kernel.

    Args:
        arch: the architecture.
        page_size: bytes of a page.
        levels: levels of its page tables.
        user_address_bits: bits of a user address; None: as many as such tables usually have.

    Raises:
        ValueError: `MODELLED` has none like this.
    """
    for geometry in MODELLED:
        if (geometry.arch, geometry.page, geometry.levels) == (arch, page_size, levels) and (
            user_address_bits in (None, geometry.user_address_bits)
        ):
            return geometry
    bits = "" if user_address_bits is None else f" and addresses of {user_address_bits} bits"
    raise ValueError(f"page tables of {arch} with {levels} levels, {page_size:,} byte pages{bits}")
