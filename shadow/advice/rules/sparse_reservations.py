# SPDX-License-Identifier: GPL-2.0-only
"""Regions far apart: PMD and PUD pages for a few PTE pages each."""

from math import ceil

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Effect, Finding
from shadow.advice.rules.sanitizer import sanitizer
from shadow.mapping_names import mapping_name

__all__ = ("sparse_reservations",)

_MANY, _SHARE = 64, 1 / 3


def sparse_reservations(evidence: Evidence) -> Finding | None:
    """Judge by the share of upper levels in all page tables."""
    now = evidence.snapshot.now
    upper = now.pmd_pages + now.pud_pages
    tables = upper + now.pte_pages + now.thp_deposits
    if upper < max(evidence.enough(_MANY), _SHARE * tables) or sanitizer(evidence) is not None:
        return None
    geometry = evidence.geometry
    pmd_needed = max(ceil((now.pte_pages + now.thp_deposits) / geometry.entries), 1)
    needed = pmd_needed + (ceil(pmd_needed / geometry.entries) if geometry.has_puds else 0)
    most = max(evidence.uses, key=lambda use: use.pmd_pages + use.pud_pages, default=None)
    where = f", most of them for {mapping_name(most.kind, most.name)}" if most else ""
    return Finding(
        rule="sparse_reservations",
        title="regions lie far apart: much of the page tables is in upper levels",
        why=f"{upper:,} of {tables:,} page tables are PMD and PUD pages, "
        f"{upper * geometry.page >> 10:,} KiB{where}; {needed:,} would do.",
        numbers={
            "pmd_pages": now.pmd_pages,
            "pud_pages": now.pud_pages,
            "tables": tables,
            "needed": needed,
        },
        change=Change(
            "Put memory into fewer and larger regions: reserve one range and divide it, give mmap "
            "the end of the last region as its hint in place of a random address, and unmap "
            "regions that are not used any more. Each region of its own "
            f"{geometry.pmd_text} costs a PMD page. "
            "Runtimes for WebAssembly have a setting for what each memory reserves (wasmtime: "
            "Config::memory_reservation)."
        ),
        effect=Effect(
            0,
            0,
            "counted: the PMD and PUD pages there are, less those that the same PTE pages need "
            "side by side; how near a new layout comes is not known",
            upper=max(upper - needed, 0),
        ),
        risks=["Smaller reservations of a runtime cost it checks of bounds at each access."],
        verify="ptescope census: PMD and PUD pages; VmPTE in /proc/PID/status.",
        source="Linux, mm/page_tables; wasmtime documentation, Config::memory_reservation",
    )
