# SPDX-License-Identifier: GPL-2.0-only
"""Compare the shadow with a reading of the page tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from shadow.table.counters import Counter
from shadow.table.page_set import Pages, overlapping
from shadow.table.table import Table
from shadow.table.vma import VmaFlag

__all__ = ("Difference", "candidates", "compare")

Slots = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


_EXPLAINED = {"populate", "pageout", "guard"}
"""Causes that are calls which the probes saw there."""


@dataclass(frozen=True)
class Difference:
    """The result of a comparison.

    Attributes:
        slots: (n,) int64, ascending: slots that differ between shadow and reading.
        pte_pages: real PTE pages less PTE pages of the shadow.
        empty_missing: empty PTE pages that the shadow does not report as empty.
        empty_extra: PTE pages that the shadow reports as empty but are not.
        wrong: entries that are none in only one of shadow and reading.
        causes: `wrong` by possible cause, as far as the place shows it: a huge page
            ("thp"), a call ("populate", "pageout", "guard"), memory under "userfaultfd", a
            "shared file mapping" or another "file mapping", a facility in use that pins pages
            ("io_uring", "direct I/O", "KVM", "VFIO", "RDMA"), a "loss", or "unknown".
        empty_causes: `empty_missing` and `empty_extra` by possible cause.
    """

    slots: Slots
    pte_pages: int = 0
    empty_missing: int = 0
    empty_extra: int = 0
    wrong: int = 0
    causes: dict[str, int] = field(default_factory=dict)
    empty_causes: dict[str, int] = field(default_factory=dict)

    @property
    def explained(self) -> bool:
        """Whether observed calls explain all differences."""
        return not (self.causes.keys() | self.empty_causes.keys()) - _EXPLAINED


def _on(slots: Slots, pages: Pages) -> tuple[Mask, npt.NDArray[np.uint64]]:
    """Whether each of `slots` has a PTE page, and the bitmap of its entries."""
    at = np.searchsorted(pages.slots, slots)
    exists = np.isin(slots, pages.slots)
    maps = np.zeros((len(slots), pages.present.shape[1]), np.uint64)
    maps[exists] = pages.present[at[exists]]
    return exists, maps


def _may_be_huge(table: Table, flags: npt.NDArray[np.int64]) -> Mask:
    """Which anonymous VMAs may get huge pages of any size without an event."""
    always = table.counter(Counter.THP) == 2 or table.counter(Counter.PAGES_ALWAYS)
    on_request = always or table.counter(Counter.THP) or table.counter(Counter.PAGES_MADVISE)
    allowed = flags & VmaFlag.NOHUGEPAGE == 0
    asked = flags & VmaFlag.HUGEPAGE != 0
    may: Mask = allowed & ((asked & bool(on_request)) | bool(always))
    return may


def _causes(
    table: Table,
    slots: Slots,
    changed: npt.NDArray[np.uint64],
    huge: Mask,
    called: Mapping[str, Mask],
    pinned: Mask,
    pinning: str | None,
) -> npt.NDArray[np.str_]:
    """The possible cause of each difference: see `Difference.causes`."""
    bits = np.unpackbits(changed.view(np.uint8), axis=1, bitorder="little")
    first = slots + (bits.argmax(axis=1) << table.geometry.page_shift)
    vmas = table.vmas()
    shared: Mask = np.zeros(len(slots), np.bool_)
    of_file = may_be_huge = shared
    if len(vmas):
        vma = vmas[np.maximum(np.searchsorted(vmas["start"], first, side="right") - 1, 0)]
        of_file = (vma["file"] != 0) & (vma["end"] > first)
        shared = of_file & (vma["flags"] & VmaFlag.SHARED != 0)
        may_be_huge = ~of_file & _may_be_huge(table, vma["flags"])
    return np.select(
        [huge, *called.values(), shared, of_file, may_be_huge, pinned],
        ["thp", *called, "shared file mapping", "file mapping", "thp", str(pinning)],
        default="loss" if table.counter(Counter.LOST) else "unknown",
    )


def _sums(causes: npt.NDArray[np.str_], weights: npt.NDArray[np.int64]) -> dict[str, int]:
    """The sum of weights for each cause, without sums of 0."""
    sums = {str(cause): int(weights[causes == cause].sum()) for cause in np.unique(causes)}
    return {cause: total for cause, total in sums.items() if total}


def compare(
    table: Table,
    real: Pages,
    *,
    shadow: Pages | None = None,
    moving: Mask | None = None,
    called: Mapping[str, Mask] = MappingProxyType({}),
    pinning: str | None = None,
) -> Difference:
    """Compare the running kernel's side of a shadow with a reading.

    An inexact reading has no empty PTE pages. Then an empty page is missing where the shadow has
    entries and the reading has none, and extra where only the reading has entries.

    Args:
        table: the shadow.
        real: the reading.
        shadow: the PTE pages of the shadow, if the caller has them.
        moving: which of `candidates` to leave out.
        called: by call, which of `candidates` the calls without complete events cover.
        pinning: the facility that may have mapped entries without faults; None: unknown.
    """
    shadow = table.pages() if shadow is None else shadow
    slots = candidates(shadow, real)
    real_huge, shadow_huge = np.isin(slots, real.huge), np.isin(slots, shadow.huge)
    keep = np.ones(len(slots), np.bool_) if moving is None else ~moving
    real_has, real_maps = _on(slots, real)
    shadow_has, shadow_maps = _on(slots, shadow)
    changed = real_maps ^ shadow_maps
    wrong = np.bitwise_count(changed).sum(axis=1, dtype=np.int64)
    wrong[real_huge != shadow_huge] = table.geometry.entries
    real_used, shadow_used = real_maps.any(axis=1), shadow_maps.any(axis=1)
    if real.exact:
        missing = keep & real_has & ~real_used & ~(shadow_has & ~shadow_used)
        extra = keep & shadow_has & ~shadow_used & ~(real_has & ~real_used)
        differs = (wrong > 0) | (real_has != shadow_has) | (real_huge != shadow_huge)
    else:
        missing = keep & shadow_used & ~real_has
        extra = keep & shadow_has & ~shadow_used & real_has
        differs = (wrong > 0) | (real_huge != shadow_huge)
    differs &= keep
    huge = real_huge | shadow_huge
    under = {name: mask[differs] for name, mask in called.items()}
    came: Mask = np.asarray((changed & real_maps).any(axis=1))
    pinned = came[differs] & bool(pinning)
    causes = _causes(table, slots[differs], changed[differs], huge[differs], under, pinned, pinning)
    return Difference(
        slots=slots[differs],
        pte_pages=int(real_has[keep].sum()) - int(shadow_has[keep].sum()),
        empty_missing=int(missing.sum()),
        empty_extra=int(extra.sum()),
        wrong=int(wrong[keep].sum()),
        causes=_sums(causes, wrong[differs]),
        empty_causes=_sums(causes, (missing | extra)[differs].astype(np.int64)),
    )


def candidates(shadow: Pages, real: Pages) -> Slots:
    """The slots that a comparison checks, ascending."""
    known = np.concatenate([shadow.slots, shadow.huge])
    if real.within:
        known = known[overlapping(known, real.within, real.slot_bytes)]
    return np.unique(np.concatenate([known, real.slots, real.huge]))
