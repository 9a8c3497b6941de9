# SPDX-License-Identifier: GPL-2.0-only
"""Another allocator that releases whole slots: mimalloc or google/tcmalloc."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Finding, within_a_factor_of_two

__all__ = ("other_allocator",)

_MANY, _BYTES = 0.25, 1 << 20
"""Least share and size of the empty PTE pages that justify another allocator."""
_ALIGNED = 2 << 20
"""What google/tcmalloc releases at once. It covers no larger slot, and how the segments of mimalloc
lie in larger slots was not tried."""
_SETTINGS = (
    "MIMALLOC_PURGE_DELAY=0",
    "MIMALLOC_DECOMMIT_DELAY=0  # its name before version 2.1",
)


def other_allocator(evidence: Evidence) -> Finding | None:
    """Report this if a large share is empty and the allocator serves malloc."""
    now, allocator = evidence.snapshot.now, evidence.allocator
    if not evidence.runs("jemalloc", "gperftools") or allocator is None:
        return None
    if allocator.serves != "malloc" or now.empty < _MANY * now.pte_pages:
        return None
    if evidence.geometry.slot > _ALIGNED:
        return None
    if evidence.empty_bytes < _BYTES / evidence.alike:
        return None
    preloaded = (allocator.linked or "").startswith("preloaded")
    return Finding(
        rule="other_allocator",
        title=f"{allocator.name} purges without regard to slots; other allocators do not",
        why=f"{now.empty:,} of {now.pte_pages:,} PTE pages are empty.",
        numbers={"empty": now.empty, "pte_pages": now.pte_pages},
        change=Change(
            "Try mimalloc with a purge delay of 0, which purges segments that are aligned to "
            "slots, or google/tcmalloc, which releases 2 MiB at a time."
            + ("" if preloaded else " The program is linked with this one: it has to be rebuilt."),
            ["LD_PRELOAD=libmimalloc.so.2", *_SETTINGS] if preloaded else [],
        ),
        effect=within_a_factor_of_two(
            now.empty,
            "nearly all empty PTE pages go, but some other slots get one: the history of this "
            "allocator does not show where another one places its blocks",
        ),
        risks=[
            "Another allocator changes speed and fragmentation: measure under your own load.",
            "A program that calls functions of its allocator (mallctl, sdallocx) must keep it.",
            "With a delay of 0, each free of a page run is a system call. With a longer delay, "
            "mimalloc purges only while the program uses it, and an idle process keeps its memory.",
        ],
        verify="Restart with the change, run the same load, run ptescope census and compare RSS.",
        source="mimalloc readme (MIMALLOC_PURGE_DELAY); google/tcmalloc docs/design.md",
    )
