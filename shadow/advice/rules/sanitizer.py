# SPDX-License-Identifier: GPL-2.0-only
"""A sanitizer: the shadow of what a program touches needs page tables too."""

from math import floor

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Effect, Finding
from shadow.mapping_names import MappingKind
from shadow.mappings import MappingUse

__all__ = ("sanitizer",)

_MANY, _SHARE = 16, 0.5
_HEAP = {"ASan heap", "TSan heap", "MSan heap"}
"""Rows of their allocators, as `shadow.sanitizers` names them."""
_NEVER = "Do not run this build in production: without the sanitizer all of this goes."
_CHANGES = {
    "ASan": Change(
        f"{_NEVER} Elsewhere, let the program use addresses again (no random hints to mmap, pools "
        "in place of new mappings), and keep less of what it freed.",
        [
            "ASAN_OPTIONS=quarantine_size_mb=64:max_redzone=128:"
            "allocator_release_to_os_interval_ms=1000"
        ],
    ),
    "TSan": Change(
        f"{_NEVER} Elsewhere, let it flush its shadow now and then.",
        ["TSAN_OPTIONS=flush_memory_ms=60000"],
    ),
    "MSan": Change(f"{_NEVER} Elsewhere, let the program use addresses again."),
}


def _of_sanitizer(use: MappingUse) -> bool:
    kind = use.kind
    return kind == MappingKind.SANITIZER or (kind == MappingKind.ALLOCATOR and use.name in _HEAP)


def sanitizer(evidence: Evidence) -> Finding | None:
    """Judge by the page tables of the shadow and of the sanitizer's own allocator."""
    uses = [use for use in evidence.uses if _of_sanitizer(use)]
    shadow = [use for use in uses if use.kind == MappingKind.SANITIZER]
    taken, everything = sum(u.bytes for u in uses), sum(u.bytes for u in evidence.uses)
    page = evidence.geometry.page
    if not shadow or taken < max(evidence.enough(_MANY) * page, _SHARE * everything):
        return None
    name = (shadow[0].name or "").split(" ", maxsplit=1)[0]
    upper = sum(use.pmd_pages + use.pud_pages for use in uses)
    return Finding(
        rule="sanitizer",
        title=f"most page tables serve {name}, a sanitizer, and not the program",
        why=f"Its shadow and its heap have {100 * taken / everything:.0f} % of all page tables: "
        f"{taken >> 10:,} KiB, {upper * page / 1024:,.0f} KiB of these in PMD and PUD pages, "
        "because its regions lie far apart.",
        numbers={"bytes": taken, "all_bytes": everything, "upper_pages": round(upper, 3)},
        change=_CHANGES.get(name, Change(_NEVER)),
        effect=Effect(
            0,
            floor(sum(use.pte_pages for use in uses)),
            "counted: what its shadow and heap have now, of which a build without it keeps what "
            "malloc needs. What options save cannot be predicted: it depends on which addresses "
            "the program uses again",
            upper=floor(upper),
        ),
        risks=[
            "With a smaller quarantine and smaller redzones it misses more errors.",
        ],
        verify="ptescope census: rows of the sanitizer in the table of mappings.",
        source="compiler-rt: asan/asan_flags.inc, sanitizer_common/sanitizer_flags.inc, "
        "tsan/rtl/tsan_flags.inc, asan/asan_mapping.h",
    )
