# SPDX-License-Identifier: GPL-2.0-only
"""Many processes of one name with like page tables: fewer of them, or fewer tables in each."""

from statistics import median

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Finding, after_a_restart
from shadow.family import Family

__all__ = ("many_processes",)

_PROCESSES, _BYTES = 4, 1 << 20
"""At least so many processes, with so many bytes of PTE pages together."""
_ALIKE = 0.75
"""Share of the processes that have between half and twice the PTE pages of the middle one."""


def _alike(pages: list[int]) -> bool:
    middle = median(pages)
    near = sum(middle <= 2 * number and number <= 2 * middle for number in pages)
    return near >= _ALIKE * len(pages)


def _from_to(pages: list[int]) -> str:
    least, most = f"{pages[0]:,}", f"{pages[-1]:,}"
    return least if least == most else f"{least} to {most}"


def many_processes(family: Family, members: list[Evidence]) -> Finding | None:
    """One finding for all, judged by their sums and what they map in common.

    Args:
        family: the processes as one.
        members: what is known of each.
    """
    pages = sorted(member.snapshot.now.pte_pages for member in members)
    if len(pages) < _PROCESSES:
        return None
    page = members[0].geometry.page
    if sum(pages) * page < _BYTES or not _alike(pages):
        return None
    if 2 * family.empty > family.pte_pages:  # then there are better remedies
        return None
    half = len(pages) // 2
    shared = sum(common.pte_pages for common in family.common)
    program = members[0].program
    setting = program.fewer if program else None
    return Finding(
        rule="many_processes",
        title=f"{len(pages):,} processes have page tables of their own for much the same",
        why=f"Each has {_from_to(pages)} PTE pages, {sum(pages):,} together, "
        f"{sum(pages) * page >> 10:,} KiB; {shared:,.0f} of these map what at least two of them "
        "map.",
        numbers={
            "processes": len(pages),
            "least": pages[0],
            "most": pages[-1],
            "pte_pages": sum(pages),
            "shared_pte_pages": round(shared, 3),
        },
        change=Change(setting.what, list(setting.how))
        if setting
        else Change(
            "Run fewer of them: threads in place of processes, more work for each, or a pool in "
            "front of them. Where they share memory, huge pages do as much and keep their number."
        ),
        effect=after_a_restart(
            sum(pages[:half]),
            sum(pages[len(pages) - half :]),
            f"counted, for {half:,} processes fewer: the half with the least PTE pages, and that "
            "with the most; another run differs by a tenth, and those that stay may grow by what "
            "they take over",
        ),
        risks=["Fewer processes do less at a time, and a crash of one concerns more work."],
        verify="ptescope census -n NAME: VmPTE of all together.",
        source=f"{setting.source}; fork(2)" if setting else "Linux, mm/page_tables; fork(2)",
    )
