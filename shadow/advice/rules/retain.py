# SPDX-License-Identifier: GPL-2.0-only
"""jemalloc's retain:false: munmap in place of MADV_DONTNEED, and when not to."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Effect, Finding, within_a_factor_of_two
from shadow.advice.rules.jemalloc import SHORT_DECAY_MS, decay_ms, left_out, setting
from shadow.whatif import munmap_for_purge

__all__ = ("retain",)

_MAPS_SHARE = 0.5
"""Of vm.max_map_count; more mappings than that and the change is not advised."""
_MANY = 0.1
"""Of all PTE pages: so many empty ones are told of where nothing can be predicted."""


def _applies(evidence: Evidence) -> bool:
    decay, allocator = decay_ms(evidence), evidence.allocator
    if decay is None or allocator is None or allocator.option("retain") == "false":
        return False
    # With less, each free would be a munmap: let it wait first, then look again.
    return decay < 0 or decay >= SHORT_DECAY_MS


def retain(evidence: Evidence) -> Finding | None:
    """Nearly all empty PTE pages go, if the number of mappings allows it."""
    empty = evidence.snapshot.now.empty  # those that mappings share go as well
    if not _applies(evidence) or not empty:
        return None
    baseline, future = evidence.baseline, evidence.under(munmap_for_purge)
    limit, vmas = evidence.host.max_map_count, evidence.host.vmas
    effect: Effect | None = None
    numbers = {"empty": empty, "vmas": vmas}
    allowed = "not known"
    if limit is not None:
        numbers["max_map_count"], allowed = limit, f"{limit:,}"
    mappings = f"{vmas:,} mappings are there now, vm.max_map_count is {allowed}."
    if baseline is not None and future is not None:
        saved = max(baseline.pte_pages - future.pte_pages, 0)
        numbers["vmas_predicted"] = future.vmas
        mappings = f"{future.vmas:,} mappings are to be expected, {mappings}"
        effect = within_a_factor_of_two(
            max(saved, empty),
            f"all of its empty PTE pages; {saved:,} go where what it purged is unmapped in the "
            "shadow, and the more the less is mapped that it never uses; some come back, because "
            "blocks lie elsewhere then",
        )
    elif empty < _MANY * evidence.snapshot.now.pte_pages:
        return None
    source = "jemalloc man page (opt.retain); issues 970, 1011, 1328 on max_map_count"
    if future is not None and limit is not None and future.vmas > _MAPS_SHARE * limit:
        return Finding(
            rule="retain",
            title="retain:false would help, but make too many mappings: do not use it here",
            why=mappings,
            numbers=dict(numbers),
            risks=["mmap and munmap fail at vm.max_map_count, and allocations with them."],
            source=source,
        )
    return Finding(
        rule="retain",
        title="retain:true keeps mapped what is purged, and its PTE pages with it",
        why=f"{empty:,} PTE pages are empty under mappings that jemalloc keeps. {mappings}",
        numbers=dict(numbers),
        change=Change("Let jemalloc unmap what it purges.", [setting(evidence, "retain:false")]),
        effect=effect,
        risks=[
            "munmap and mmap take the mmap lock for writing: threads that fault wait for it.",
            "More mappings; at vm.max_map_count allocations fail. Watch wc -l /proc/PID/maps.",
            "Memory that is used again is mapped and faulted in anew.",
            *left_out(evidence),
        ],
        verify="Restart with it, run the same load, wait for 1.5 decay times at rest, then "
        "ptescope census; wc -l /proc/PID/maps.",
        source=source,
    )
