# SPDX-License-Identifier: GPL-2.0-only
"""Shared memory in small pages: every process that maps it has PTE pages of its own for it."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Effect, Finding, after_a_restart
from shadow.advice.huge_page_savings import huge_page_savings
from shadow.advice.rules.guest_memory import guest_memory
from shadow.mapping_names import MappingKind, mapping_name
from shadow.mappings import MappingUse

__all__ = ("shared_memory",)

_MANY = 64
_ADVISE = "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled"
_ASK = "madvise(ADDRESS, LENGTH, MADV_HUGEPAGE);"
_HUGETLB = (
    "Take it from the reserved huge pages of the kernel (vm.nr_hugepages), or let it have "
    "transparent ones and ask for them in each process, before its pages are touched."
)
_CHANGES = {
    MappingKind.MEMFD: Change(_HUGETLB, ["memfd_create(NAME, MFD_HUGETLB);", _ADVISE, _ASK]),
    MappingKind.SYSV_SHM: Change(
        _HUGETLB, ["shmget(KEY, SIZE, SHM_HUGETLB | IPC_CREAT | 0600);", _ADVISE, _ASK]
    ),
    MappingKind.SHARED_ANONYMOUS: Change(
        _HUGETLB,
        [
            "mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, "
            "-1, 0);",
            _ADVISE,
            _ASK,
        ],
    ),
    MappingKind.POSIX_SHM: Change(
        "Let /dev/shm have transparent huge pages and ask for them in each process, before its "
        "pages are touched.",
        ["mount -o remount,huge=advise /dev/shm", _ASK],
    ),
    MappingKind.FILE: Change(
        "Ask for huge pages in each process, before its pages are read. Only file systems with "
        "large folios give them to files (XFS; ext4 from Linux 6.16 on); on tmpfs the mount "
        "option huge= does.",
        [_ASK],
    ),
}
_SOURCE = (
    "mmap(2), MAP_HUGETLB; memfd_create(2); shmget(2); Linux, admin-guide/mm/transhuge, "
    "Hugepages in tmpfs/shmem"
)


def _mapped_by_size(evidence: Evidence) -> list[MappingUse]:
    """Shared memory, and files, with many PTE pages; those with most of them first."""
    found = [
        use
        for use in evidence.uses
        if use.kind in _CHANGES and use.pte_pages - use.empty >= evidence.enough(_MANY)
    ]
    return sorted(found, key=lambda use: -use.pte_pages)


def _effect(uses: list[MappingUse]) -> Effect:
    bounds = [huge_page_savings(use) for use in uses]
    # Whether a file system gives a file huge pages is not known.
    least = sum(
        low for use, (low, _) in zip(uses, bounds, strict=True) if use.kind != MappingKind.FILE
    )
    return after_a_restart(
        least,
        sum(high for _, high in bounds),
        "counted: PTE pages in slots that lie whole inside these mappings become one PMD entry "
        "each; slots at the ends of a mapping make the range, files count as nothing in its "
        "lower end, and another run differs by a tenth",
    )


def shared_memory(evidence: Evidence) -> Finding | None:
    """Judge by the mappings that own the PTE pages."""
    uses = _mapped_by_size(evidence)
    if not uses or guest_memory(evidence) is not None:  # guests have a rule of their own
        return None
    geometry, size = evidence.geometry, evidence.geometry.slot_text
    pages, largest = sum(use.pte_pages for use in uses), uses[0]
    kib = sum(use.mapped_kib for use in uses)
    program = evidence.program
    setting = program.shared if program else None
    change = Change(setting.what, list(setting.how)) if setting else None
    return Finding(
        rule="shared_memory",
        title=f"shared memory is mapped in {geometry.page_text} pages, and each process pays for "
        "it again",
        why=f"{pages:,.0f} PTE pages, {pages * geometry.page_kib:,.0f} KiB, map {kib >> 10:,} MiB "
        f"that is or can be shared; most of them {mapping_name(largest.kind, largest.name)}.",
        numbers={"pte_pages": round(pages, 3), "mapped_kib": kib, "mappings": len(uses)},
        change=change or _CHANGES[MappingKind(largest.kind)],
        effect=_effect(uses),
        risks=[
            f"A huge page is {size} resident, however little of it is used; reserved ones are lost "
            "to all other memory, and a program that does not get enough may not start.",
            f"A mapping without alignment to {size} gets fewer transparent huge pages.",
        ],
        verify="Restart with it, run the same load, then ptescope census: the mapping is hugetlb "
        "or has fewer PTE pages. HugePages_Free, ShmemPmdMapped in /proc/meminfo.",
        source=f"{setting.source}; {_SOURCE}" if setting else _SOURCE,
    )
