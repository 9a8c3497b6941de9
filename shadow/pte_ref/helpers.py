# SPDX-License-Identifier: GPL-2.0-only
"""The ten helpers of the RFC "Try to free user PTE page table pages", one by one.

Source: the series of 2022-04-29 (Message-Id 20220429133552.33768-1 to -19), whose
documentation patch lists them; their behaviour as in docs/reference/semantics.md A1 to A5.

A helper that other CPUs can run in between is a generator: it yields wherever
they may. `shadow.pte_ref.races` runs such threads in every order, and `alone`
runs one as if nobody else were there. What holds no yield is atomic, by a lock
or by being one instruction.
"""

from collections.abc import Generator
from typing import TypeVar

from shadow.geometry import SLOT
from shadow.pte_ref.errors import KernelBugError
from shadow.pte_ref.mm import Entry, Leaf, Mm, PtePage
from shadow.pte_ref.percpu_ref import PercpuRef

__all__ = (
    "Steps",
    "alone",
    "free_user_pte",
    "pte_put",
    "pte_ref_free",
    "pte_ref_init",
    "pte_tryget",
    "pte_tryget_map",
    "pte_tryget_map_lock",
    "track_pte_clear",
    "track_pte_set",
    "try_to_free_user_pte",
)

_T = TypeVar("_T")
Steps = Generator[str, None, _T]
"""A thread, or a part of one: yields what it is about to do, when others may run first."""


def alone(steps: Steps[_T]) -> _T:
    """Run to the end with nobody in between; returns its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _T = end.value
            return result


def pte_ref_init(page: PtePage) -> bool:
    """Give a new PTE page its count: percpu mode, nobody holds it.

    Called by the constructor of every user PTE page. percpu_ref_init starts at
    1, which is put at once. False where memory is short, which is not modelled.
    """
    page.pte_ref = PercpuRef()
    return True


def pte_ref_free(page: PtePage) -> None:
    """Take the count away; called by the destructor."""
    page.pte_ref = None


def _destroy(page: PtePage) -> None:
    """The destructor, and the page goes back to the allocator."""
    pte_ref_free(page)
    page.freed = True


def pte_tryget(mm: Mm, slot: int, *, recheck: bool = False) -> Steps[PtePage | None]:
    """Hold the PTE page of `slot` as a visitor; None: there is none, or it is going.

    The PMD entry is read once, under RCU, so the page stays memory until this is
    over. Where the count is seen to be zero the page is freed on the way.
    """
    reader = object()
    mm.rcu.lock(reader)
    page = mm.pmds.get(slot)
    if page is None or isinstance(page, Leaf):
        mm.rcu.unlock(reader)
        return None
    yield "percpu_ref_tryget"
    held = page.ref.tryget()
    mm.rcu.unlock(reader)
    if held:
        return page
    yield from free_user_pte(mm, slot, expected=page if recheck else None)
    return None


def pte_put(page: PtePage) -> None:
    """Let go of a PTE page; never frees it."""
    page.ref.put()


def pte_tryget_map(mm: Mm, slot: int, *, recheck: bool = False) -> Steps[PtePage | None]:
    """pte_tryget, then pte_offset_map. None is to be treated as an empty slot.

    What is mapped is what was got: the visitor holds the page, so it can neither
    be freed nor replaced before pte_unmap puts it.
    """
    page = yield from pte_tryget(mm, slot, recheck=recheck)
    if page is None:
        return None
    yield "pte_offset_map"
    if page.freed:
        raise KernelBugError("a PTE page is mapped after it was freed")
    return page


def pte_tryget_map_lock(mm: Mm, slot: int, *, recheck: bool = False) -> Steps[PtePage | None]:
    """pte_tryget_map, and the lock of that PTE page taken.

    The lock itself is not modelled: what needs it stands between two yields.
    """
    page = yield from pte_tryget_map(mm, slot, recheck=recheck)
    return page


def free_user_pte(mm: Mm, slot: int, *, expected: PtePage | None = None) -> Steps[None]:
    """Take the PTE page of `slot` out of the tree, under the PMD lock.

    As posted it looks at nothing but the PMD entry: neither whether this is the
    page that the caller found at zero, nor whether it still is at zero. With
    `expected` it does, which the series lacks (see `shadow.pte_ref.races`).
    """
    yield "pmd_lock"
    page = mm.pmds.get(slot)
    if page is None or isinstance(page, Leaf):
        return
    if expected and (page is not expected or not page.ref.is_zero()):
        return
    del mm.pmds[slot]
    mm.flushes.append(slot)
    mm.nr_ptes -= 1
    mm.freed += 1
    if any(entry is not Entry.NONE for entry in page.entries):
        raise KernelBugError("free_user_pte took a PTE page that maps something")
    mm.rcu.call(lambda: _destroy(page))


def try_to_free_user_pte(
    mm: Mm, slot: int, *, switch_back: bool, recheck: bool = False
) -> Steps[bool]:
    """An attempt: free the PTE page of `slot` if nothing holds it.

    Args:
        mm: the address space.
        slot: first address of the slot.
        switch_back: after a failed attempt go back to percpu mode, as the series
            was posted; the correction that its author made a day later leaves it
            in atomic mode for good.
        recheck: see `free_user_pte`, `expected`.

    Returns:
        Whether it was found at zero.
    """
    assert slot % SLOT == 0
    if mm.is_init_mm:
        return False
    page = yield from pte_tryget(mm, slot, recheck=recheck)
    if page is None:
        return False
    yield "percpu_ref_switch_to_atomic_sync"
    page.ref.switch_to_atomic_sync()
    yield "percpu_ref_put"
    reader = object()
    mm.rcu.lock(reader)
    page.ref.put()
    zero = page.ref.is_zero()
    mm.rcu.unlock(reader)
    if zero:
        yield from free_user_pte(mm, slot, expected=page if recheck else None)
    elif switch_back:
        page.ref.switch_to_percpu()
    return zero


def track_pte_set(mm: Mm, page: PtePage, index: int, new: Entry) -> None:
    """set_pte_at: an entry that was none and is not any more takes a reference.

    Raises:
        KernelBugError: nobody holds the page, not even who sets the entry.
    """
    if not mm.is_init_mm:
        if page.ref.is_zero():
            raise KernelBugError("set_pte_at in a PTE page that nobody holds")
        if page.entries[index] is Entry.NONE and new is not Entry.NONE:
            page.ref.get()
    page.entries[index] = new


def track_pte_clear(mm: Mm, page: PtePage, index: int) -> None:
    """ptep_get_and_clear and its like: an entry that was not none gives its reference back.

    Raises:
        KernelBugError: nobody holds the page.
    """
    if not mm.is_init_mm:
        if page.ref.is_zero():
            raise KernelBugError("ptep_get_and_clear in a PTE page that nobody holds")
        if page.entries[index] is not Entry.NONE:
            page.ref.put()
    page.entries[index] = Entry.NONE
