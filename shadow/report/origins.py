# SPDX-License-Identifier: GPL-2.0-only
"""What emptied the empty PTE pages, and who made them, in a few lines of text."""

from shadow.mapping_names import mapping_name
from shadow.origins import Origin, Origins
from shadow.units import NS

__all__ = ("origins_lines",)

_LINES = 8
"""Most lines of both parts. The last line of a part sums up the origins without a line."""
_MADE = 3


def _bytes(count: int) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:,} {unit}"
        count //= 1024
    raise AssertionError


def _size(origin: Origin) -> str:
    if not origin.most_bytes:
        return ""
    if origin.least_bytes == origin.most_bytes:
        return f" of {_bytes(origin.most_bytes)}"
    return f" of {_bytes(origin.least_bytes)} to {_bytes(origin.most_bytes)}"


def _when(origin: Origin, end_ns: int) -> str:
    if not origin.first_ns:
        return ""
    oldest, newest = (max(end_ns - at, 0) / NS for at in (origin.first_ns, origin.last_ns))
    if f"{oldest:.1f}" == f"{newest:.1f}":
        return f", {newest:.1f} s ago"
    return f", {newest:.1f} to {oldest:.1f} s ago"


def _line(origin: Origin, total: int, end_ns: int) -> str:
    thread = f" by {origin.thread}" if origin.thread else ""
    where = f" in {mapping_name(origin.kind, origin.name)}" if origin.kind else ""
    what = f"{origin.call}{_size(origin)}{thread}{where}{_when(origin, end_ns)}"
    return f"{origin.pte_pages:10,} of {total:,}   {what}"


def _part(title: str, origins: list[Origin], most: int, end_ns: int) -> list[str]:
    total = sum(origin.pte_pages for origin in origins)
    shown = origins if len(origins) <= most else origins[: most - 1]
    lines = [_line(origin, total, end_ns) for origin in shown]
    if left := origins[len(shown) :]:
        count = sum(origin.pte_pages for origin in left)
        lines.append(f"{count:10,} of {total:,}   {len(left)} other origins")
    return [f"  {title if at == 0 else '':<13} {line}" for at, line in enumerate(lines)]


def origins_lines(origins: Origins | None, end_ns: int) -> list[str]:
    """What emptied the empty PTE pages, and who made them; no lines if none is empty.

    Args:
        origins: see `Snapshot.origins`; None: unknown.
        end_ns: the time for which ages are computed, CLOCK_MONOTONIC.
    """
    if origins is None or not origins.emptied:
        return []
    return [
        "",
        *_part("emptied by", origins.emptied, _LINES - _MADE, end_ns),
        *_part("made by", origins.made, _MADE, end_ns),
    ]
