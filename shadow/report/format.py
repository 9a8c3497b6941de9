# SPDX-License-Identifier: GPL-2.0-only
"""Text that several reports share."""

import re
from itertools import pairwise
from shlex import quote

from shadow.geometry import X86_64
from shadow.plural import counted
from shadow.remedy import Remedy
from shadow.report.text_table import TextTable, left, right
from shadow.snapshot import Audit, Kernel, Process

__all__ = ("compared_lines", "occupancy_lines", "origin_lines", "share", "size")

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_TRUTHS = {"census": "the page tables", "counted": "pagemap and VmPTE"}
_OCCUPANCY = TextTable(right("entries in a PTE page", 23), right("PTE pages", 10), left(""), gap=2)
_BANDS = (8, 32, 128, 384, 512)
"""Where bands of 2 and more entries end, in 512ths of all entries."""


def size(number: float) -> str:
    """A number of bytes, in a unit that needs few digits."""
    kib = number / 1024
    for unit in ("KiB", "MiB", "GiB"):
        if kib < 1024 or unit == "GiB":
            return f"{kib:.0f} {unit}" if unit == "KiB" else f"{kib:.1f} {unit}"
        kib /= 1024
    raise AssertionError("unreachable")


def share(part: int, whole: int) -> str:
    """A percentage, or a dash if the whole is 0."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _setting(variable: str, value: str) -> str:
    """A setting, quoted for a shell: users paste it, and its text comes from the target."""
    if _VARIABLE.fullmatch(variable):
        return f"{variable}={quote(value)}"
    return quote(f"{variable}={value}")


_REMEDY_DOES_NOTHING = {
    "kernel_refuses": "this kernel frees no PTE page by MADV_DONTNEED",
    "no_retain": "jemalloc runs with retain:false",
    "hpa": "jemalloc runs with hpa:true",
    "guards": "jemalloc runs with san_guard_*",
    "bad_option": "PTESCOPE_REMEDY has an error",
    "other_hooks": "jemalloc has other extent hooks",
    "kernel_flawed": "this kernel can corrupt memory when it frees a PTE page (CVE-2026-74674)",
}


def _remedy_line(remedy: Remedy, page_size: int) -> str:
    """What the remedy has done; a swept slot need not have had a PTE page."""
    if remedy.state in _REMEDY_DOES_NOTHING:
        return f"  remedy        does nothing: {_REMEDY_DOES_NOTHING[remedy.state]}"
    done = "would be swept (dry run)" if remedy.state == "dry_run" else "swept"
    most = size(remedy.swept * page_size)
    left = remedy.too_small + remedy.too_fast + remedy.failed
    rest = f", {left:,} left" if left else ""
    return (
        f"  remedy        {counted(remedy.swept, 'slot')} {done}, at most {most}"
        f"{rest}; hooks on {counted(remedy.arenas, 'arena')}"
    )


def _tables(kernel: Kernel) -> str:
    """Levels and pages; pages of 4 KiB on x86-64 go without saying."""
    if kernel.arch == X86_64.arch:
        return f"{kernel.levels} levels"
    return f"{kernel.arch} with pages of {kernel.page_size >> 10} KiB, {kernel.levels} levels"


def origin_lines(process: Process, kernel: Kernel) -> list[str]:
    """The allocator of a process, its remedy, and its kernel."""
    lines = []
    allocator = process.allocator
    if allocator:
        name = f"{allocator.name} {allocator.version}" if allocator.version else allocator.name
        settings = " ".join(_setting(*pair) for pair in allocator.settings.items())
        lines.append(f"  allocator     {name} ({allocator.linked}) {settings}".rstrip())
    if process.remedy:
        lines.append(_remedy_line(process.remedy, kernel.page_size))
    lines.append(f"  kernel        {kernel.release}, {_tables(kernel)}, policy {kernel.policy}")
    return lines


def occupancy_lines(occupancy: list[int]) -> list[str]:
    """A histogram of PTE pages by their number of entries."""
    total, entries = sum(occupancy), len(occupancy) - 1
    ends = [2, *(end * entries // 512 for end in _BANDS)]
    bands = ((low, high - 1) for low, high in pairwise(ends))
    rows = []
    for low, high in ((0, 0), (1, 1), *bands, (entries, entries)):
        count = sum(occupancy[low : high + 1])
        label = f"{low}" if low == high else f"{low}-{high}"
        bar = "#" * round(40 * count / total) if total else ""
        rows.append((label, f"{count:,}", bar))
    return ["", *_OCCUPANCY.lines(rows)]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def compared_lines(audit: Audit) -> list[str]:
    """The number of audits, and how many PTE pages the last one compared."""
    if not audit.runs:
        partly = f"; in part {_times(audit.rereads)}" if audit.rereads else ""
        return [f"  checked       never in full{partly}"]
    pages = audit.compared + audit.not_compared
    how_often = f"  checked       {_times(audit.runs)} against {_TRUTHS[audit.method]}"
    lines = [f"{how_often}, {audit.compared:,} of {pages:,} PTE pages in the last check"]
    if not audit.complete:
        lines.append(
            f"  NOT CHECKED   {audit.not_compared:,} PTE pages ({share(audit.not_compared, pages)})"
            " changed during every reading and could not be compared"
        )
    return lines
