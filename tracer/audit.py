"""The shadow compared with the page tables as they were read."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shadow.geometry import PAGE_SHIFT
from shadow.table import Counter, Pages, Table, overlapping

__all__ = ("Difference", "candidates", "compare")

Slots = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Difference:
    """What a comparison found.

    Attributes:
        slots: (n,) int64, ascending: where shadow and truth differ.
        pte_pages: PTE pages that are really there, less those of the shadow.
        empty_missing: empty PTE pages that the shadow does not have as such.
        empty_extra: PTE pages that it has as empty and are not.
        wrong: entries that are none in one and not in the other.
        causes: `wrong` by what may have made it, as far as the place tells.
    """

    slots: Slots
    pte_pages: int = 0
    empty_missing: int = 0
    empty_extra: int = 0
    wrong: int = 0
    causes: dict[str, int] = field(default_factory=dict)


def _on(slots: Slots, pages: Pages) -> tuple[Mask, npt.NDArray[np.uint64]]:
    """Whether each of `slots` has a PTE page, and its map."""
    at = np.searchsorted(pages.slots, slots)
    exists = np.isin(slots, pages.slots)
    maps = np.zeros((len(slots), pages.present.shape[1]), np.uint64)
    maps[exists] = pages.present[at[exists]]
    return exists, maps


def _causes(
    table: Table, slots: Slots, changed: npt.NDArray[np.uint64], huge: Mask, populated: Mask
) -> dict[str, int]:
    """Wrong entries by cause: huge page, populate call, file mapping, lost events, or unknown."""
    bits = np.unpackbits(changed.view(np.uint8), axis=1, bitorder="little")
    first = slots + (bits.argmax(axis=1) << PAGE_SHIFT)
    vmas = table.state.vmas[: table.counter(Counter.VMAS)]
    of_file = np.zeros(len(slots), np.bool_)
    if len(vmas):
        vma = vmas[np.maximum(np.searchsorted(vmas["start"], first, side="right") - 1, 0)]
        of_file = (vma["file"] != 0) & (vma["end"] > first)
    cause = np.select(
        [huge, populated, of_file],
        ["thp", "populate", "file mapping"],
        default="loss" if table.counter(Counter.LOST) else "unknown",
    )
    wrong = bits.sum(axis=1, dtype=np.int64)
    names = [str(name) for name in np.unique(cause)]
    return {name: int(wrong[cause == name].sum()) for name in names}


def compare(
    table: Table, real: Pages, *, moving: Mask | None = None, populated: Mask | None = None
) -> Difference:
    """Compare the running kernel's side of a shadow with the truth.

    Where `real` is not exact it tells nothing about empty PTE pages: then one
    is missing where the shadow has entries and there are none, and extra where
    the shadow has none and there are some.

    Args:
        table: the shadow.
        real: the truth.
        moving: see `candidates`: slots to leave out.
        populated: likewise: slots under a call that maps pages without faults.
    """
    shadow = table.pages()
    slots = candidates(table, real)
    real_huge, shadow_huge = np.isin(slots, real.huge), np.isin(slots, shadow.huge)
    keep = np.ones(len(slots), np.bool_) if moving is None else ~moving
    was_populated = np.zeros(len(slots), np.bool_) if populated is None else populated
    real_has, real_maps = _on(slots, real)
    shadow_has, shadow_maps = _on(slots, shadow)
    changed = real_maps ^ shadow_maps
    wrong = np.bitwise_count(changed).sum(axis=1)
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
    return Difference(
        slots=slots[differs],
        pte_pages=int(real_has[keep].sum()) - int(shadow_has[keep].sum()),
        empty_missing=int(missing.sum()),
        empty_extra=int(extra.sum()),
        wrong=int(wrong[keep].sum()),
        causes=_causes(
            table, slots[differs], changed[differs], huge[differs], was_populated[differs]
        ),
    )


def candidates(table: Table, real: Pages) -> Slots:
    """The slots that a comparison looks at, ascending."""
    shadow = table.pages()
    known = np.concatenate([shadow.slots, shadow.huge])
    if real.within:
        known = known[overlapping(known, real.within)]
    return np.unique(np.concatenate([known, real.slots, real.huge]))
