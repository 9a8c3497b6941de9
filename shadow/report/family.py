# SPDX-License-Identifier: GPL-2.0-only
"""Groups of processes as text: their sums, and the files that they share."""

from shadow.escape import reporter
from shadow.family import CommonMapping, Family
from shadow.mapping_names import mapping_name
from shadow.plural import counted
from shadow.report.format import share, size
from shadow.report.mappings import mapping_lines
from shadow.report.text_table import TextTable, left, right

__all__ = ("common_line", "families_table", "render_family")

_SHOWN = 3
_WORTH_A_LINE = 1 << 20
"""The table of families names a shared file below it if its page tables take this many bytes."""


def common_line(common: CommonMapping) -> str:
    """A sentence on a file that several processes map."""
    least, most = round(common.least), round(common.most)
    each = counted(most, "PTE page") if least == most else f"{least:,} to {most:,} PTE pages"
    return (
        f"{counted(common.processes, 'process')} map the same {size(common.common_kib << 10)} "
        f"of {mapping_name(common.kind, common.name)}; each uses {each} for it, "
        f"{size(common.bytes)} in total"
    )


@reporter
def render_family(family: Family) -> str:
    """One group in full."""
    number = len(family.pids)
    lines = [
        f"{family.key}: {counted(number, 'process')}, {family.pte_pages:,} PTE pages, "
        f"{size(family.pte_pages * family.page_size)}; {family.empty:,} empty, "
        f"{share(family.empty, family.pte_pages)}",
        f"  VmPTE         {family.vm_pte_kib:,} kB in total, "
        f"{family.vm_pte_kib // max(number, 1):,} kB each on average",
        f"  upper levels  {family.pmd_pages:,} PMD pages, {family.pud_pages:,} PUD pages, "
        f"{family.thp_deposits:,} deposited under huge pages",
    ]
    if family.unnamed:
        lines.append(
            f"  incomplete    the mappings of {counted(family.unnamed, 'process')} are unknown"
        )
    lines += mapping_lines(family.mappings or None)
    shared = family.common[:_SHOWN]
    lines += ["", "  shared"] * bool(shared)
    lines += [f"    {common_line(common)}" for common in shared]
    if len(family.common) > _SHOWN:
        rest = family.common[_SHOWN:]
        total = sum(common.bytes for common in rest)
        lines.append(f"    {len(rest):,} more, {size(total)} in total")
    return "\n".join(lines)


_TABLE = TextTable(
    right("processes", 9),
    right("VmPTE kB", 11),
    right("PTE pages", 11),
    right("empty", 9),
    right("of all", 7),
    right("sparse", 9),
    left(""),
)


@reporter
def families_table(families: list[Family]) -> str:
    """A row for each group, and below it the most expensive shared file of each group."""
    rows = [
        (
            f"{len(family.pids):,}",
            f"{family.vm_pte_kib:,}",
            f"{family.pte_pages:,}",
            f"{family.empty:,}",
            share(family.empty, family.pte_pages),
            f"{family.sparse:,}",
            f" {family.key}",
        )
        for family in families
    ]
    shared = [each for family in families for each in family.common[:1]]
    shared = [each for each in shared if each.bytes >= _WORTH_A_LINE]
    lines = _TABLE.lines(rows) + [""] * bool(shared)
    return "\n".join([*lines, *map(common_line, shared)])
