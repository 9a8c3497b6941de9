# SPDX-License-Identifier: GPL-2.0-only
"""PTE pages with a few entries left: no policy frees them."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Finding, at_most
from shadow.advice.rules.sanitizer import sanitizer

__all__ = ("sparse",)

_MANY, _SHARE = 64, 0.25
_SOURCE = "pte_ref and PT_RECLAIM both free a PTE page only when it has no entry"


def sparse(evidence: Evidence) -> Finding | None:
    """Report survivors that are scattered over many slots."""
    now = evidence.snapshot.now
    if now.sparse < max(evidence.enough(_MANY), _SHARE * now.pte_pages):
        return None
    if sanitizer(evidence) is not None:  # that scatters what it serves on purpose
        return None
    program = evidence.program
    setting = program.survivors if program else None
    geometry = evidence.geometry
    scattered = now.occupancy[: geometry.sparse_below]
    entries = sum(refs * pages for refs, pages in enumerate(scattered))
    needed = -(-entries // geometry.entries)
    return Finding(
        rule="sparse",
        title="survivors are scattered: PTE pages with a few entries that no policy frees",
        why=f"{now.sparse:,} PTE pages have {entries:,} entries; {needed:,} pages would suffice.",
        numbers={"sparse": now.sparse, "entries": entries, "needed": needed},
        change=Change(setting.what, list(setting.how))
        if setting
        else Change(
            "Bring survivors together: active defragmentation where the program has it, or a "
            "restart that reloads the data. MADV_COLLAPSE or khugepaged replaces such a PTE page "
            "by a huge page: more resident memory, not less."
        ),
        effect=at_most(now.sparse - needed, "counted; how much moves is up to the program"),
        risks=["Moving objects takes CPU time; a restart takes the service down."],
        verify="In ptescope census, `sparse` falls.",
        source=f"{setting.source}; {_SOURCE}" if setting else _SOURCE,
    )
