# SPDX-License-Identifier: GPL-2.0-only
"""The memory of a guest in small pages."""

from math import floor

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Finding, after_a_restart
from shadow.advice.huge_page_savings import huge_page_savings
from shadow.advice.rules.guest_memory import guest_memory
from shadow.geometry import Geometry
from shadow.mapping_names import MappingKind, mapping_name

__all__ = ("guest_huge_pages",)

_MANY = 64
_THP = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"


def _backend(geometry: Geometry) -> list[str]:
    """Options of QEMU, and the setting of the host that reserves the pages."""
    return [
        "-object memory-backend-memfd,id=mem,size=SIZE,hugetlb=on,"
        f"hugetlbsize={geometry.slot >> 20}M",
        "-machine memory-backend=mem",
        "sysctl -w vm.nr_hugepages=NUMBER",
    ]


def guest_huge_pages(evidence: Evidence) -> Finding | None:
    """Judge by PTE pages under the guest's memory that are in use."""
    guest = guest_memory(evidence)
    if guest is None or guest.pte_pages - guest.empty < evidence.enough(_MANY):
        return None
    geometry = evidence.geometry
    never = evidence.host.thp == "never" and guest.kind == MappingKind.ANONYMOUS
    least, most = huge_page_savings(guest)
    if guest.kind == MappingKind.ANONYMOUS:  # that row has QEMU's own memory as well
        least, most = 0, floor(guest.pte_pages)
    return Finding(
        rule="guest_huge_pages",
        title=f"the guest's memory is mapped in {geometry.page_text} pages",
        why=f"{guest.pte_pages:,.0f} PTE pages map {mapping_name(guest.kind, None)}, "
        f"{guest.entries:,} pages of {geometry.page_text}.",
        numbers={"pte_pages": round(guest.pte_pages, 3), "entries": guest.entries},
        change=Change(
            "Give the guest reserved huge pages; with libvirt: "
            "<memoryBacking><hugepages/></memoryBacking>. "
            + (
                "Or let the host have transparent ones: QEMU asks for them itself."
                if never
                else f"Transparent ones come only where {geometry.slot_text} of the guest were not "
                "returned or split."
            ),
            [_THP, *_backend(geometry)] if never else _backend(geometry),
        ),
        effect=after_a_restart(
            least,
            most,
            "counted: PTE pages under the guest's memory, each of which becomes one PMD entry; "
            "what of anonymous memory is QEMU's own is not known, and another run differs by a "
            "tenth",
        ),
        risks=[
            "Reserved huge pages are lost to all other memory, and the guest starts only if there "
            "are enough.",
            "Memory in huge pages cannot be given back, merged or swapped in single pages.",
        ],
        verify="Start the guest with it, run the same load, then ptescope census: its memory is "
        "hugetlb, without PTE pages.",
        source="qemu(1), memory-backend-memfd; libvirt, formatdomain, hugepages",
    )
