# SPDX-License-Identifier: GPL-2.0-only
"""The races of `dontneed_zero`, as threads that run in every order.

MADV_DONTNEED zaps under the PTE lock, drops it, and looks at all 512 entries under the PMD lock and
the PTE lock (mm/memory.c of 7.3: zap_pte_range, zap_pte_table_if_empty). It holds the lock of its
VMA for reading and no mmap_lock.

- A fault between the zap and the look: the look finds the entry, and the PTE page stays. A fault
  after the look finds the PMD entry none, or finds that it has changed under the PTE lock, and
  retries.
- Two calls that zap a half each: one of the two looks finds the PTE page empty. The other call
  finds the PMD entry none.
- mremap into the slot, from another VMA: move_ptes takes mmap_lock and its own VMA's lock for
  writing. It does not check the PMD entry again under the PTE lock of the target, because "we
  already hold the exclusive mmap_lock, so this new_pte page is stable". That holds while only a
  VMA that covers the whole slot can free its PTE page. It does not hold for a VMA that shares the
  slot with the target: mremap then moves entries into a PTE page that is not in the tree any more,
  and their pages are lost. With tools/vm_guests/mremap-checks.patch move_ptes
  checks; then no order breaks.

`python -m shadow.pte_ref.look_races` explores all and prints the shortest break of each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from shadow.pte_ref.errors import KernelBugError
from shadow.pte_ref.interleave import Thread
from shadow.pte_ref.mm import Entry, PtePage
from shadow.pte_ref.races import Race, report

__all__ = ("LOOK_RACES",)

_MINE, _OTHER = 3, 300
"""Entries of two VMAs, or of two halves of one, that share the slot."""


@dataclass
class _Slot:
    """One slot: its PMD entry. No step takes a lock, because a thread runs alone up to a yield."""

    pmd: PtePage | None = field(default_factory=PtePage)


def _lands(slot: _Slot, page: PtePage, index: int) -> None:
    """Set an entry, which must be found by a walk from the PMD entry."""
    page.entries[index] = Entry.PRESENT
    if slot.pmd is not page:
        raise KernelBugError("an entry is set in a PTE page that is not in the tree any more")


def _dontneed(slot: _Slot, index: int) -> Thread:
    """Zap one entry; then look, and free the PTE page if all entries are none."""
    yield "pmd_none"
    page = slot.pmd
    if page is None:
        return
    yield "pte lock"
    if slot.pmd is page:  # pte_offset_map_lock checks it again
        page.entries[index] = Entry.NONE
    yield "pmd lock, pte lock"
    found = slot.pmd
    if found is not None and all(entry is Entry.NONE for entry in found.entries):
        slot.pmd = None
        found.freed = True


def _set(slot: _Slot, index: int, first: str, *, checks: bool) -> Thread:
    """Allocate the PTE page in the step `first`, if needed, and set an entry under its lock."""
    while True:
        yield first
        if slot.pmd is None:
            slot.pmd = PtePage()
        page = slot.pmd
        yield "pte lock"
        if not checks or slot.pmd is page:
            _lands(slot, page, index)
            return


def _fault(slot: _Slot, index: int) -> Thread:
    """A fault: pte_alloc, then pte_offset_map_lock, which checks the PMD entry again."""
    return _set(slot, index, "pte_alloc", checks=True)


def _mremap(slot: _Slot, index: int, *, checks: bool) -> Thread:
    """move_ptes with its target in the slot, of another VMA than that of MADV_DONTNEED."""
    return _set(slot, index, "alloc_new_pmd, pte_alloc", checks=checks)


def _filled() -> _Slot:
    slot = _Slot()
    assert slot.pmd is not None
    slot.pmd.entries[_MINE] = Entry.PRESENT
    return slot


def _fault_between() -> Mapping[str, Thread]:
    slot = _filled()
    return {"A MADV_DONTNEED": _dontneed(slot, _MINE), "B page fault": _fault(slot, _OTHER)}


def _two_halves() -> Mapping[str, Thread]:
    slot = _filled()
    assert slot.pmd is not None
    slot.pmd.entries[_OTHER] = Entry.PRESENT
    return {
        "A MADV_DONTNEED": _dontneed(slot, _MINE),
        "B MADV_DONTNEED": _dontneed(slot, _OTHER),
        "C page fault": _fault(slot, _MINE + 1),
    }


def _with_mremap(checks: bool) -> Callable[[], Mapping[str, Thread]]:
    def world() -> Mapping[str, Thread]:
        slot = _filled()
        return {
            "A MADV_DONTNEED": _dontneed(slot, _MINE),
            "B mremap": _mremap(slot, _OTHER, checks=checks),
        }

    return world


LOOK_RACES = (
    Race("a fault between the zap and the look", False, _fault_between),
    Race("two halves and a fault", False, _two_halves),
    Race("mremap beside it, which trusts mmap_lock", True, _with_mremap(False)),
    Race("mremap beside it, which checks the PMD entry", False, _with_mremap(True)),
)


if __name__ == "__main__":
    report(LOOK_RACES)
