# SPDX-License-Identifier: GPL-2.0-only
"""The page tables of a recorded kernel, which no recording names.

The header of perf script has the architecture. Nothing has the page size: neither the headers of
perf.data (checked with perf 6.1: `perf script --header -I`) nor the other texts. Some releases of
kernels have it in their name. Otherwise the addresses that mmap returned give a bound, because
they are multiples of a page: an odd multiple of 4 KiB proves pages of 4 KiB, and many multiples
of 64 KiB make pages of 64 KiB very likely.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shadow.errors import UsageError
from shadow.events import EventBatch, Kind
from shadow.geometry import MODELLED, X86_64, Geometry
from shadow.perf_import.said import Called, Returned, Said
from shadow.user_space import outside

__all__ = ("Assumed", "PageTables", "assumed")

_ARCHITECTURES = {"x86_64": X86_64.arch, "aarch64": "arm64"}
"""By the name in the header of perf script, which has it from uname."""
_ENOUGH = 12
"""With pages of 4 KiB, so many addresses are multiples of 16 KiB by chance in 1 of 4**12 cases."""
_IN_RELEASE = re.compile(r"(?a)[-+](4|16|64)k\b")
"""As in 6.12.94+deb13-arm64-16k, 5.14.0-427.el9.aarch64+64k and 6.8.0-31-generic-64k."""


class PageTables(NamedTuple):
    """What the user says of the page tables: architecture, and bytes of a page; None: nothing."""

    arch: str | None = None
    page: int | None = None


@dataclass(frozen=True)
class Assumed:
    """What an import assumes.

    Attributes:
        alike: the geometries with this architecture and page size; the smallest address space
            first.
        why: the reasons, as phrases; empty: nothing but x86-64 can be meant.
    """

    alike: tuple[Geometry, ...]
    why: tuple[str, ...]

    @property
    def page(self) -> int:
        """Bytes of a page."""
        return self.alike[0].page

    def fitting(self, batches: Sequence[EventBatch]) -> Geometry:
        """The geometry with the fewest levels whose address space has all memory in the events."""
        most = self.alike[-1].user_bytes
        for each in self.alike[:-1]:
            if not any(_has_memory_between(batch, each.user_bytes, most) for batch in batches):
                return each
        return self.alike[-1]

    def note(self, geometry: Geometry) -> str:
        """A sentence for reports; empty if nothing was assumed."""
        if not self.why:
            return ""
        return (
            f"The page tables of this kernel are assumed: {geometry.name}, {', '.join(self.why)}. "
            "The import has options to name others."
        )


def _has_memory_between(events: EventBatch, low: int, high: int) -> bool:
    placed = events[np.isin(events["kind"], (Kind.FAULT, Kind.MAP))]
    return bool((outside(placed, low) & ~outside(placed, high)).any())


def _mapped(said: Sequence[Said]) -> list[int]:
    """The addresses that mmap returned."""
    results = [
        each.what.result
        for each in said
        if isinstance(each.what, Returned | Called) and each.what.call == "mmap"
    ]
    return [result for result in results if 0 < result < 1 << 63]


def _page(sizes: Sequence[int], release: str, said: Sequence[Said]) -> tuple[int, str]:
    """Bytes of a page, and the reason as a phrase."""
    addresses = _mapped(said)
    bound = max(size for size in sizes if size == sizes[0] or not any(a % size for a in addresses))
    named = _IN_RELEASE.search(release)
    if named and int(named[1]) << 10 in sizes and int(named[1]) << 10 <= bound:
        return int(named[1]) << 10, "by the name of its release"
    if bound < sizes[-1] or len(addresses) >= _ENOUGH:
        return bound, f"by the {len(addresses):,} addresses that mmap returned"
    return sizes[0], "because the text has too few addresses of mmap to show the size of a page"


def assumed(header: Mapping[str, str], said: Sequence[Said], given: PageTables) -> Assumed:
    """What can be said of the page tables of the recorded kernel.

    Args:
        header: the facts that the text has about its kernel.
        said: all lines.
        given: what the user says.

    Raises:
        UsageError: ptescope models no such page tables.
    """
    why = []
    arch = given.arch or _ARCHITECTURES.get(header.get("arch", ""))
    if arch is None:
        arch = X86_64.arch
        why.append("because the text has no architecture")
    sizes = sorted({each.page for each in MODELLED if each.arch == arch})
    page = given.page or sizes[0]
    if given.page is None and len(sizes) > 1:
        page, reason = _page(sizes, header.get("os release", ""), said)
        why.append(reason)
    alike = [each for each in MODELLED if (each.arch, each.page) == (arch, page)]
    if not alike:
        raise UsageError(
            f"ptescope knows no page tables of {arch} with pages of {page:,} bytes; it knows: "
            f"{'; '.join(each.name for each in MODELLED)}."
        )
    return Assumed(tuple(sorted(alike, key=lambda each: each.user_bytes)), tuple(why))
