# SPDX-License-Identifier: GPL-2.0-only
"""A census as text: one process in full, or a table of many."""

from shadow.escape import reporter
from shadow.report.format import occupancy_lines, origin_lines, share, size
from shadow.report.mappings import mapping_lines
from shadow.report.text_table import TextTable, left, right
from shadow.snapshot import Reading, Snapshot

__all__ = ("census_table", "render_census")

_NS_PER_MS = 1e6


def _sum_line(snapshot: Snapshot, reading: Reading) -> str:
    """Compares the sum of all tables with the VmPTE that the kernel reports."""
    now = snapshot.now
    stated, found = now.vm_pte_kib or 0, now.vm_pte_predicted_kib
    if not reading.exact:
        return f"  VmPTE         {stated:,} kB reported by the kernel, used for the counts above"
    if stated == found and not reading.unstable:
        tries = f" (reading {reading.tries})" if reading.tries > 1 else ""
        return (
            f"  VmPTE         {stated:,} kB reported by the kernel, equal to the sum above{tries}"
        )
    return (
        f"  VmPTE         {stated:,} kB reported by the kernel, but {found:,} kB READ: "
        f"the process changed its tables during each of {reading.tries} readings"
    )


@reporter
def render_census(snapshot: Snapshot) -> str:
    """One process in full.

    Args:
        snapshot: with a `reading`.
    """
    reading, now, process = snapshot.reading, snapshot.now, snapshot.process
    assert reading is not None
    page, few = snapshot.kernel.page_size, snapshot.kernel.geometry.sparse_below
    kinds = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in reading.entries.items())
    huge = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in reading.huge.items())
    lines = [
        f"{process.comm} (pid {process.pid})",
        *origin_lines(process, snapshot.kernel),
        "",
        f"  PTE pages     {now.pte_pages:10,}   {size(now.pte_pages * page)}",
        f"  empty         {now.empty:10,}   {size(now.empty * page)}, "
        f"{share(now.empty, now.pte_pages)} of all",
        f"  sparse        {now.sparse:10,}   fewer than {few} entries",
        f"  entries       {now.refs:10,}   {kinds}",
        f"  huge          {sum(reading.huge.values()):10,}   {huge}",
        f"  upper levels  {now.pmd_pages:10,}   PMD pages, {now.pud_pages} PUD pages, "
        f"{now.thp_deposits} deposited under huge pages",
        _sum_line(snapshot, reading),
        *mapping_lines(snapshot.mappings, named=snapshot.mappings_named),
        *occupancy_lines(now.occupancy),
        "",
        f"  how           {reading.how}, {reading.took_ns / _NS_PER_MS:.1f} ms",
        *(f"  note          {note}" for note in snapshot.notes),
    ]
    if snapshot.empty_slots is not None:
        lines += [
            "",
            "  empty slots     mapping" if snapshot.empty_slots else "  no empty slots",
        ]
        named = zip(snapshot.empty_slots, snapshot.empty_slot_vmas or [], strict=True)
        lines += [f"  {slot:#014x}  {name}" for slot, name in named]
    return "\n".join(lines)


_TABLE = TextTable(
    right("pid", 8),
    right("VmPTE kB", 10),
    right("PTE pages", 10),
    right("empty", 9),
    right("of all", 7),
    right("sparse", 8),
    right("sum", 5),
    left(" allocator", 17),
    left("name"),
)


@reporter
def census_table(snapshots: list[Snapshot]) -> str:
    """A row for each process; `sum` is ok if the sum of all tables equals VmPTE."""
    return "\n".join(_TABLE.lines(map(_cells, snapshots)))


def _cells(snapshot: Snapshot) -> list[str]:
    now, process, reading = snapshot.now, snapshot.process, snapshot.reading
    fits = "-"
    if reading and reading.exact:
        fits = "ok" if now.vm_pte_kib == now.vm_pte_predicted_kib else "off"
    allocator = process.allocator
    name = f"{allocator.name} {allocator.version or ''}".rstrip() if allocator else "-"
    return [
        str(process.pid),
        f"{now.vm_pte_kib or 0:,}",
        f"{now.pte_pages:,}",
        f"{now.empty:,}",
        share(now.empty, now.pte_pages),
        f"{now.sparse:,}",
        fits,
        f" {name}",
        process.comm,
    ]
