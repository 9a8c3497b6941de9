# SPDX-License-Identifier: GPL-2.0-only
"""Which mappings own the page tables, as lines of a report."""

from shadow.mapping_names import mapping_name
from shadow.mappings import MappingUse, summed_up
from shadow.report.text_table import TextTable, left, right

__all__ = ("mapping_lines",)

_SHOWN = 10
_KIB = 1024


def _count(tables: float) -> str:
    """A number of tables; fractions have one digit."""
    if tables == int(tables):
        return f"{int(tables):,}"
    return f"{tables:,.1f}" if tables >= 0.05 else "<0.1"


def _others(use: MappingUse) -> float:
    """PMD and PUD pages, and PTE pages deposited under huge pages."""
    return use.pmd_pages + use.pud_pages + use.thp_deposits


_TABLE = TextTable(
    right("PTE pages", 11),
    right("empty", 8),
    right("sparse", 8),
    right("entries", 11),
    right("other tables", 12),
    right("kB", 10),
    right("of all", 7),
    left(" mapping"),
)


def _row(name: str, use: MappingUse) -> list[str]:
    return [
        _count(use.pte_pages),
        _count(use.empty),
        _count(use.sparse),
        f"{use.entries:,}",
        _count(_others(use)),
        _count(use.bytes / _KIB),
        f"{100 * use.share:.1f} %",
        f" {name}",
    ]


def mapping_lines(
    uses: list[MappingUse] | None, *, named: bool = True, shown: int = _SHOWN
) -> list[str]:
    """The largest rows, and one row for the rest.

    Args:
        uses: the rows, largest first; None: unknown.
        named: whether the names of mappings were read.
        shown: the number of rows to show.
    """
    if uses is None:
        return []
    rows = [_row(mapping_name(use.kind, use.name), use) for use in uses[:shown]]
    rest = uses[shown:]
    if rest:
        everything = sum(use.bytes for use in uses)
        rows.append(_row(f"{len(rest):,} more", summed_up(rest, everything)))
    lines = ["", *_TABLE.lines(rows)]
    if not named:
        lines.append("  the names of files and named memory were not recorded")
    return lines
