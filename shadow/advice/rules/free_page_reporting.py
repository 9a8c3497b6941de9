# SPDX-License-Identifier: GPL-2.0-only
"""A guest that gives memory back in pieces of 4 KiB leaves the PTE pages of its host empty."""

from math import floor

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Finding, at_most
from shadow.advice.rules.guest_memory import guest_memory

__all__ = ("free_page_reporting",)

_MANY, _SHARE = 16, 0.1
_BLOCK = 2 << 20
"""Bytes that a guest with pages of 4 KiB reports at once, at least. With larger pages its blocks
are larger, but the host does not know the pages of its guests."""


def free_page_reporting(evidence: Evidence) -> Finding | None:
    """Judge by empty PTE pages under the guest's memory."""
    guest = guest_memory(evidence)
    if guest is None or evidence.snapshot.kernel.policy != "pt_reclaim":
        return None
    if guest.empty < max(evidence.enough(_MANY), _SHARE * guest.pte_pages):
        return None
    geometry = evidence.geometry
    if geometry.slot > _BLOCK:
        return None
    return Finding(
        rule="free_page_reporting",
        title="the guest gave memory back in small pieces; free page reporting takes "
        f"{geometry.slot_text} ones",
        why=f"{guest.empty:,.0f} of {guest.pte_pages:,.0f} PTE pages of the guest's memory are "
        "empty. A balloon works in pages of 4 KiB, and the kernel frees a PTE page only where "
        f"one call covers its {geometry.slot_text}.",
        numbers={"empty": round(guest.empty, 3), "pte_pages": round(guest.pte_pages, 3)},
        change=Change(
            "Give the balloon device free page reporting, and leave the balloon itself deflated. "
            "With libvirt: <memballoon model='virtio' freePageReporting='on'/>.",
            ["-device virtio-balloon-pci,free-page-reporting=on"],
        ),
        effect=at_most(
            floor(guest.empty),
            "counted: empty now under the guest's memory, QEMU's own anonymous memory included; "
            "how much the guest reports is not known. In a trial, a balloon left 547 PTE pages "
            "and reporting 347",
        ),
        risks=[
            "The guest needs Linux 5.7 or later, and decides what it reports: free memory only, "
            "in whole blocks of 2 MiB or more.",
            "Memory that the guest uses again is faulted in again.",
            "Reported memory is not kept from the guest: it can take all of it back.",
        ],
        verify="Start the guest with it, run the same load, then ptescope census: fewer empty "
        "PTE pages.",
        source="Linux, mm/free_page_reporting; QEMU, virtio-balloon-pci; libvirt, formatdomain",
    )
