# SPDX-License-Identifier: GPL-2.0-only
"""One process as text: policies, occupancy, and a map of its slots."""

from collections.abc import Mapping, Sequence

from shadow.escape import reporter
from shadow.geometry import Geometry
from shadow.host_view import HostProcess
from shadow.report.format import occupancy_lines, origin_lines, share, size
from shadow.report.mappings import mapping_lines
from shadow.report.text_table import TextTable, left, right
from shadow.snapshot import Audit, Snapshot

__all__ = ("detail", "slot_map", "sparkline")

_BARS = "▁▂▃▄▅▆▇█"
_SHADES = ".:-=+*#%@"
"""Characters from few entries to all."""
_EMPTY = "o"


def sparkline(values: Sequence[float]) -> str:
    """Values as bars; the largest value has the highest bar."""
    most = max(values, default=0.0)
    if not most:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(int(value / most * len(_BARS)), len(_BARS) - 1)] for value in values)


def _sign(entries: int, full: int) -> str:
    if entries == 0:
        return _EMPTY
    return _SHADES[min(entries * len(_SHADES) // (full + 1), len(_SHADES) - 1)]


def slot_map(slots: Mapping[int, int], width: int, geometry: Geometry) -> list[str]:
    """PTE pages by address, one character each; addresses without PTE pages are left out.

    Args:
        slots: the number of entries of each PTE page, by the first address of its slot.
        width: the number of characters in a line.
        geometry: the shape of the page tables.
    """
    lines: list[str] = []
    row, first, previous = "", 0, -geometry.slot
    for address in sorted(slots):
        if row and (address != previous + geometry.slot or len(row) == width):
            lines.append(f"  {first:#014x}  {row}")
            row = ""
        if not row:
            first = address
        row += _sign(slots[address], geometry.entries)
        previous = address
    return [*lines, f"  {first:#014x}  {row}"] if row else lines


def _audited(audit: Audit) -> str:
    """The result of all audits so far, and how many PTE pages the last one compared."""
    if not audit.runs:
        return "  audited       not yet"
    compared = f"{audit.compared:,} of {audit.compared + audit.not_compared:,} PTE pages compared"
    return (
        f"  audited       {audit.runs:,} x, {compared}, empty missing {audit.empty_missing:,}, "
        f"extra {audit.empty_extra:,}"
    )


_POLICIES = TextTable(
    left("  policy", 16),
    right("PTE pages", 10),
    right("empty", 8),
    right("freed", 8),
    right("again", 6),
)


def _policies(snapshot: Snapshot) -> list[str]:
    return _POLICIES.lines(
        (
            f" {'*' if label == snapshot.kernel.policy else ' '}{label}",
            f"{outcome.pte_pages:,}",
            f"{outcome.empty:,}",
            f"{outcome.freed:,}",
            f"{outcome.reallocated:,}",
        )
        for label, outcome in snapshot.policies.items()
    )


@reporter
def detail(
    process: HostProcess, slots: Mapping[int, int], events: Sequence[float], width: int
) -> str:
    """The screen of one process.

    Args:
        process: the process.
        slots: the number of entries of each PTE page, by the first address of its slot.
        events: events per second in each of the latest views.
        width: the width of the screen in columns.
    """
    snapshot = process.snapshot
    head = [f"{process.comm} (pid {process.pid})   {process.cgroup}"]
    if snapshot is None:
        return "\n".join(
            [*head, "", "  ptescope does not follow this process; it only reads its VmPTE, "
             f"{process.vm_pte_kib:,} kB."]
        )  # fmt: skip
    now, geometry = snapshot.now, snapshot.kernel.geometry
    lines = head + origin_lines(snapshot.process, snapshot.kernel)
    lines += [
        f"  PTE pages     {now.pte_pages:,}, {size(now.pte_pages * snapshot.kernel.page_size)}; "
        f"{now.empty:,} empty, {share(now.empty, now.pte_pages)}",
        f"  events        {sparkline(events)}  {process.events_per_second:,.0f} per second",
        f"  lost          {snapshot.window.lost:,}",
        _audited(snapshot.audit),
        "",
        *_policies(snapshot),
        *mapping_lines(snapshot.mappings, named=snapshot.mappings_named),
        *occupancy_lines(now.occupancy),
        "",
        f"  slots of {geometry.slot_text}: {_EMPTY} empty, {_SHADES[0]} few entries ... "
        f"{_SHADES[-1]} full",
    ]
    lines += slot_map(slots, max(width - 20, 16), geometry)
    return "\n".join(lines)
