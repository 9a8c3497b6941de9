# SPDX-License-Identifier: GPL-2.0-only
"""A snapshot as plain text, for a terminal of 80 columns or more."""

from shadow.escape import reporter
from shadow.plural import counted
from shadow.policy import POLICIES, Policy
from shadow.report.format import (
    compared_lines,
    occupancy_lines,
    origin_lines,
    share,
    size,
)
from shadow.report.mappings import mapping_lines
from shadow.report.origins import origins_lines
from shadow.report.stacks import stack_lines
from shadow.report.text_table import TextTable, left, right
from shadow.snapshot import Audit, Snapshot, Window
from shadow.units import NS

__all__ = ("interval_header", "interval_row", "live_line", "render")

_POLICY_TEXT = {
    Policy.NONE: "only at munmap and exit",
    Policy.PT_RECLAIM: "when one DONTNEED covers the slot",
    Policy.DONTNEED_ZERO: "when any DONTNEED leaves it empty",
    Policy.PTE_REF: "when its last entry is gone",
}
_FREEING = tuple(policy.label for policy in POLICIES[1:])


def live_line(*, elapsed: float, events: int, pte_pages: int, empty: int, lost: int) -> str:
    """The status line, which is updated during a run."""
    return (
        f"{elapsed:7.1f} s  {events:,} events  {pte_pages:,} PTE pages  "
        f"{empty:,} empty ({share(empty, pte_pages)})  {lost:,} lost"
    )


_INTERVALS = TextTable(
    right("seconds", 8),
    right("events", 11),
    right("PTE pages", 10),
    right("empty", 8),
    right("lazyfree", 9),
    right("lost", 6),
)
_POLICIES = TextTable(
    left(f"  {'policy':<15}frees a PTE page", 51),
    right("PTE pages", 10),
    right("empty", 7),
    right("peak", 8),
    right("mean", 8),
    right("freed", 7),
    right("allocated again", 16),
)


def interval_header() -> str:
    """The heading above the rows of `interval_row`."""
    return _INTERVALS.heading()


@reporter
def interval_row(snapshot: Snapshot) -> str:
    """One row for one interval of a run."""
    window, now = snapshot.window, snapshot.now
    return _INTERVALS.row(
        f"{(window.end_ns - window.start_ns) / NS:.1f}",
        f"{sum(window.events.values()):,}",
        f"{now.pte_pages:,}",
        f"{now.empty:,}",
        f"{now.lazyfree_only or 0:,}",
        f"{window.lost:,}",
    )


def _heading(snapshot: Snapshot) -> list[str]:
    process, window = snapshot.process, snapshot.window
    seconds = (window.end_ns - window.start_ns) / NS
    return [
        f"{process.comm} (pid {process.pid}), {seconds:.1f} s, "
        f"{counted(sum(window.events.values()), 'event')}, {window.lost:,} lost",
        *origin_lines(process, snapshot.kernel),
    ]


def _tables(snapshot: Snapshot) -> list[str]:
    now, page = snapshot.now, snapshot.kernel.page_size
    few = snapshot.kernel.geometry.sparse_below
    lines = [
        "",
        f"  PTE pages     {now.pte_pages:10,}   {size(now.pte_pages * page)}",
        f"  empty         {now.empty:10,}   {size(now.empty * page)}, "
        f"{share(now.empty, now.pte_pages)} of all",
    ]
    if now.unplaced:
        lines.append(
            f"                {now.unplaced:10,}   of these predate the window: addresses unknown"
        )
    lines += [
        f"  lazyfree only {now.lazyfree_only or 0:10,}   "
        "become empty when reclaim frees their pages",
        f"  sparse        {now.sparse:10,}   fewer than {few} entries",
        f"  entries       {now.refs:10,}   that are not none",
        f"  upper levels  {now.pmd_pages:10,}   PMD pages, {now.pud_pages} PUD pages, "
        f"{now.thp_deposits} deposited under huge pages",
    ]
    predicted = f"{now.vm_pte_predicted_kib:,} kB predicted"
    stated = f", {now.vm_pte_kib:,} kB reported by the kernel" if now.vm_pte_kib else ""
    lines.append(f"  VmPTE         {predicted}{stated}")
    return lines


def _policies(snapshot: Snapshot) -> list[str]:
    rows = [
        (
            f" {'*' if policy.label == snapshot.kernel.policy else ' '}{policy.label:<15}{text}",
            f"{outcome.pte_pages:,}",
            f"{outcome.empty:,}",
            f"{outcome.peak:,}",
            f"{outcome.mean:,.0f}",
            f"{outcome.freed:,}",
            f"{outcome.reallocated:,}",
        )
        for policy, text in _POLICY_TEXT.items()
        for outcome in (snapshot.policies[policy.label],)
    ]
    lines = ["", *_POLICIES.lines(rows)]
    lines.append(
        "  * policy of this kernel; pte_ref counts PTE pages empty before the window as freed"
    )
    for label in _FREEING:
        outcome = snapshot.policies[label]
        waits = f", {outcome.mode_switches:,} waits for RCU" if outcome.mode_switches else ""
        lines.append(
            f"  {label:<13} {outcome.saved_page_seconds:10,.0f} page-seconds less than none, "
            f"in {outcome.attempts:,} attempts{waits}"
        )
    inferred = {label: snapshot.policies[label].inferred for label in _FREEING}
    lines += [
        f"  {label:<13} {count:10,} freed PTE pages were inferred from a reading, not from events"
        for label, count in inferred.items()
        if count
    ]
    return lines


_SEEDS = {
    "census": "read all page tables at the start, then followed events",
    "counted": "read pagemap and VmPTE at the start, then followed events",
    "none": "followed events only: page tables from before the window are missing",
}


def _checked(audit: Audit) -> list[str]:
    """The differences between the shadow and the real page tables."""
    lines = compared_lines(audit)
    if audit.runs + audit.rereads:
        vmas = f"{audit.vmas_diff:,}" if audit.vmas_runs or audit.vmas_diff else "not compared"
        lines.append(
            f"                PTE pages wrong {audit.pte_pages_diff:,}, empty missing "
            f"{audit.empty_missing:,}, extra {audit.empty_extra:,}, entries wrong "
            f"{audit.refs_diff:,}, VMAs {vmas}"
        )
    if audit.repaired:
        lines.append(f"                {audit.repaired:,} PTE pages corrected")
        for what, sums in (("entries", audit.causes), ("empty pages", audit.empty_causes)):
            causes = ", ".join(f"{name} {count:,}" for name, count in sums.items())
            lines += [f"                wrong {what} by cause: {causes}"] if causes else []
    return lines


_NAMED = 4


def _few(names: list[str]) -> str:
    """The names, or their number if there are many."""
    return ", ".join(names) if len(names) <= _NAMED else f"{len(names)} sources"


def _seen(window: Window) -> list[str]:
    """PTE pages that the kernel allocated and freed, if its functions can be traced."""
    made, freed = (window.events.get(kind, 0) for kind in ("pte_alloc", "pte_free"))
    if not made + freed:
        return []
    return [f"  kernel        {made:,} PTE pages allocated, {freed:,} freed (traced in the kernel)"]


def _trust(snapshot: Snapshot) -> list[str]:
    window, audit = snapshot.window, snapshot.audit
    kinds = ", ".join(f"{name} {count:,}" for name, count in window.events.items())
    lines = ["", f"  events        {kinds or 'none'}"]
    if snapshot.kernel.probes:
        ways = (f"{way} ({_few(names)})" for way, names in snapshot.kernel.probes.items())
        lines.append(f"  probes        {', '.join(ways)}")
    lines += _seen(window)
    lines.append(f"  how           {_SEEDS[snapshot.kernel.seed]}")
    lines += _checked(audit)
    if window.lost:
        lines.append(
            f"  LOST          {window.lost:,} events; ptescope then read the page tables again"
        )
    lines += [f"  note          {note}" for note in snapshot.notes]
    return lines


@reporter
def render(snapshot: Snapshot) -> str:
    """The report at the end of a run."""
    lines = (
        _heading(snapshot)
        + _tables(snapshot)
        + mapping_lines(snapshot.mappings, named=snapshot.mappings_named)
        + occupancy_lines(snapshot.now.occupancy)
        + origins_lines(snapshot.origins, snapshot.window.end_ns)
        + stack_lines(snapshot.stacks)
        + _policies(snapshot)
    )
    lines += _trust(snapshot)
    if snapshot.empty_slots is not None:
        lines += ["", "  empty slots"]
        lines += [f"    {slot:#014x}" for slot in snapshot.empty_slots]
    return "\n".join(lines)
