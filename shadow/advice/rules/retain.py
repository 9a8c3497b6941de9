# SPDX-License-Identifier: GPL-2.0-only
"""jemalloc's retain:false: munmap in place of MADV_DONTNEED, and when not to."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Effect, Finding, within_a_factor_of_two
from shadow.advice.rules.jemalloc import SHORT_DECAY_MS, decay_ms, left_out, setting
from shadow.whatif import munmap_for_purge

__all__ = ("retain",)

_MAPS_SHARE = 0.5
"""Share of vm.max_map_count; with more mappings, ptescope advises against the change."""
_MANY = 0.1
"""Least share of empty PTE pages for a finding without a prediction."""


def _applies(evidence: Evidence) -> bool:
    decay, allocator = decay_ms(evidence), evidence.allocator
    if decay is None or allocator is None or allocator.option("retain") == "false":
        return False
    # With a shorter decay, each free would be a munmap: first advise a longer decay.
    return decay < 0 or decay >= SHORT_DECAY_MS


def retain(evidence: Evidence) -> Finding | None:
    """Advise retain:false, or warn against it if it would create too many mappings."""
    empty = evidence.snapshot.now.empty  # including those that several mappings share
    if not _applies(evidence) or not empty:
        return None
    baseline = evidence.baseline
    future = evidence.under(lambda events: munmap_for_purge(events, evidence.geometry))
    limit, vmas = evidence.host.max_map_count, evidence.host.vmas
    effect: Effect | None = None
    numbers = {"empty": empty, "vmas": vmas}
    allowed = "unknown"
    if limit is not None:
        numbers["max_map_count"], allowed = limit, f"{limit:,}"
    mappings = f"{vmas:,} mappings exist now; vm.max_map_count is {allowed}."
    if baseline is not None and future is not None:
        saved = max(baseline.pte_pages - future.pte_pages, 0)
        numbers["vmas_predicted"] = future.vmas
        mappings = f"A simulation ends with {future.vmas:,} mappings. {mappings}"
        effect = within_a_factor_of_two(
            max(saved, empty),
            f"all empty PTE pages: {saved:,} go in a simulation that unmaps what jemalloc purged, "
            "and a real run also maps less memory that it never uses; some come back, because "
            "blocks then lie elsewhere",
        )
    elif empty < _MANY * evidence.snapshot.now.pte_pages:
        return None
    source = "jemalloc man page (opt.retain); issues 970, 1011, 1328 on max_map_count"
    if future is not None and limit is not None and future.vmas > _MAPS_SHARE * limit:
        return Finding(
            rule="retain",
            title="retain:false would help, but create too many mappings: do not use it here",
            why=mappings,
            numbers=dict(numbers),
            risks=["At vm.max_map_count, mmap and munmap fail, and so do allocations."],
            source=source,
        )
    return Finding(
        rule="retain",
        title="retain:true keeps purged memory mapped, and its PTE pages with it",
        why=f"{empty:,} PTE pages are empty under mappings that jemalloc keeps. {mappings}",
        numbers=dict(numbers),
        change=Change("Let jemalloc unmap purged memory.", [setting(evidence, "retain:false")]),
        effect=effect,
        risks=[
            "munmap and mmap take the mmap lock for writing, so threads that fault wait.",
            "There are more mappings; at vm.max_map_count, allocations fail. Watch wc -l "
            "/proc/PID/maps.",
            "Memory that the program reuses needs a new mapping and new faults.",
            *left_out(evidence),
        ],
        verify="Restart with the setting, run the same load, stay idle for 1.5 decay times, run "
        "ptescope census and wc -l /proc/PID/maps.",
        source=source,
    )
