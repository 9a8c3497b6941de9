# SPDX-License-Identifier: GPL-2.0-only
"""Processes that belong together, as text: their sums, and what they map in common."""

from shadow.escape import reporter
from shadow.family import CommonMapping, Family
from shadow.geometry import PAGE
from shadow.plural import counted
from shadow.report.format import share, size
from shadow.report.mappings import mapping_lines, mapping_name

__all__ = ("common_line", "families_header", "family_row", "render_family")

_SHOWN = 3
_WORTH_A_LINE = 1 << 20
"""Bytes of page tables for one file from which a table of families has a line for it."""


def _bytes(number: int) -> str:
    return size(number / PAGE)


def common_line(common: CommonMapping) -> str:
    """What several processes map in common, in a sentence."""
    least, most = round(common.least), round(common.most)
    each = counted(most, "PTE page") if least == most else f"{least:,} to {most:,} PTE pages"
    return (
        f"{counted(common.processes, 'process')} map the same {_bytes(common.common_kib << 10)} "
        f"of {mapping_name(common.kind, common.name)}; each has {each} for it, "
        f"{_bytes(common.bytes)} together"
    )


@reporter
def render_family(family: Family) -> str:
    """One group in full."""
    number = len(family.pids)
    lines = [
        f"{family.key}: {counted(number, 'process')}, {family.pte_pages:,} PTE pages, "
        f"{size(family.pte_pages)}; {family.empty:,} empty, "
        f"{share(family.empty, family.pte_pages)}",
        f"  VmPTE         {family.vm_pte_kib:,} kB together, "
        f"{family.vm_pte_kib // max(number, 1):,} kB each on average",
        f"  upper levels  {family.pmd_pages:,} PMD pages, {family.pud_pages:,} PUD pages, "
        f"{family.thp_deposits:,} deposited under huge pages",
    ]
    if family.unnamed:
        lines.append(
            f"  not in it     the mappings of {counted(family.unnamed, 'process')} are not known"
        )
    lines += mapping_lines(family.mappings or None)
    shared = family.common[:_SHOWN]
    lines += ["", "  in common"] * bool(shared)
    lines += [f"    {common_line(common)}" for common in shared]
    if len(family.common) > _SHOWN:
        rest = family.common[_SHOWN:]
        total = sum(common.bytes for common in rest)
        lines.append(f"    {len(rest):,} more, {_bytes(total)} together")
    return "\n".join(lines)


def families_header() -> str:
    """The heading over `family_row`."""
    return (
        f"{'processes':>9} {'VmPTE kB':>11} {'PTE pages':>11} {'empty':>9} {'of all':>7} "
        f"{'sparse':>9}  "
    )


@reporter
def family_row(family: Family) -> str:
    """One of many groups, and what costs most of what it maps in common."""
    row = (
        f"{len(family.pids):9,} {family.vm_pte_kib:11,} {family.pte_pages:11,} {family.empty:9,} "
        f"{share(family.empty, family.pte_pages):>7} {family.sparse:9,}  {family.key}"
    )
    common = [each for each in family.common[:1] if each.bytes >= _WORTH_A_LINE]
    return "\n".join([row, *(f"{'':>9} {common_line(each)}" for each in common)])
