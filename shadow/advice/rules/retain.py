"""jemalloc's retain:false: munmap in place of MADV_DONTNEED, and when not to."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Finding, within_a_factor_of_two
from shadow.advice.rules.jemalloc import SHORT_DECAY_MS, decay_ms, setting
from shadow.whatif import returned

__all__ = ("retain",)

_MAPS_SHARE = 0.5
"""Of vm.max_map_count; more mappings than that and the change is not advised."""


def retain(evidence: Evidence) -> Finding | None:
    """Nearly all empty PTE pages go, if the number of mappings allows it."""
    allocator = evidence.allocator
    decay = decay_ms(evidence)
    if decay is None or allocator is None or allocator.option("retain") == "false":
        return None
    if 0 <= decay < SHORT_DECAY_MS:
        return None  # each free would be a munmap: let it wait first, then look again
    empty = len(evidence.slots.whole) if evidence.slots else evidence.snapshot.now.empty
    baseline, future = evidence.baseline, evidence.under(returned)
    if baseline is None or future is None or empty <= 0:
        return None
    saved = baseline.pte_pages - future.pte_pages
    if saved <= 0:
        return None
    numbers = {
        "empty": empty,
        "vmas": evidence.host.vmas,
        "vmas_predicted": future.vmas,
        "max_map_count": evidence.host.max_map_count,
    }
    mappings = (
        f"{future.vmas:,} mappings are to be expected, {evidence.host.vmas:,} are there now, "
        f"vm.max_map_count is {evidence.host.max_map_count:,}."
    )
    if future.vmas > _MAPS_SHARE * evidence.host.max_map_count:
        return Finding(
            rule="retain",
            title="retain:false would help, but make too many mappings: do not use it here",
            why=mappings,
            numbers=dict(numbers),
            change=None,
            risks=["mmap and munmap fail at vm.max_map_count, and allocations with them."],
            source="jemalloc issues 970, 1011, 1328",
        )
    return Finding(
        rule="retain",
        title="retain:true keeps mapped what is purged, and its PTE pages with it",
        why=f"{empty:,} PTE pages are empty under mappings that jemalloc keeps. {mappings}",
        numbers=dict(numbers),
        change=Change("Let jemalloc unmap what it purges.", [setting(evidence, "retain:false")]),
        effect=within_a_factor_of_two(
            max(saved, empty),
            f"all of its empty PTE pages; {saved:,} go where what it purged is unmapped in the "
            "shadow, and the more the less is mapped that it never uses; some come back, because "
            "blocks lie elsewhere then",
        ),
        risks=[
            "munmap and mmap take the mmap lock for writing: threads that fault wait for it.",
            "Memory that is used again is mapped and faulted in anew.",
        ],
        verify="Restart with it, run the same load, wait for 1.5 decay times at rest, then "
        "ptescope census; wc -l /proc/PID/maps.",
        source="jemalloc man page (opt.retain); issues 970, 1011, 1328 on max_map_count",
    )
