# SPDX-License-Identifier: GPL-2.0-only
"""The ten helpers of the RFC "Try to free user PTE page table pages", one by one.

Source: the series of 2022-04-29 (Message-Id 20220429133552.33768-1 to -19). Its
documentation patch lists the helpers; docs/reference/semantics.md A1 to A5 describe them.

A helper that other CPUs can interleave with is a generator: it yields at each point where
they may run. `shadow.pte_ref.races` runs such threads in every order, and `alone` runs one
without others. Code between two yields is atomic, because it holds a lock or is a single
instruction.
"""

from collections.abc import Generator
from typing import TypeVar

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
"""A thread or a part of one: it yields the name of its next step where others may run first."""


def alone(steps: Steps[_T]) -> _T:
    """Run a thread to its end without interleaving; return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _T = end.value
            return result


def pte_ref_init(page: PtePage) -> bool:
    """Give a new PTE page its count: percpu mode, no holders.

    The constructor of every user PTE page calls this. percpu_ref_init starts at 1 and the
    helper puts that reference at once. It returns False if memory is short, which the model
    does not cover.
    """
    page.pte_ref = PercpuRef()
    return True


def pte_ref_free(page: PtePage) -> None:
    """Remove the count; the destructor calls this."""
    page.pte_ref = None


def _destroy(page: PtePage) -> None:
    """Run the destructor and return the page to the allocator."""
    pte_ref_free(page)
    page.freed = True


def pte_tryget(mm: Mm, slot: int, *, recheck: bool = False) -> Steps[PtePage | None]:
    """Hold the PTE page of `slot` as a visitor; None: there is none, or its count is zero.

    The helper reads the PMD entry once, under RCU, so the page stays allocated until the
    helper returns. If the helper sees a count of zero, it frees the page.
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
    """Put a reference to a PTE page; this never frees the page."""
    page.ref.put()


def pte_tryget_map(mm: Mm, slot: int, *, recheck: bool = False) -> Steps[PtePage | None]:
    """pte_tryget, then pte_offset_map. The caller treats None as an empty slot.

    The visitor maps the page that it holds, so nobody can free or replace the page before
    pte_unmap puts it.
    """
    page = yield from pte_tryget(mm, slot, recheck=recheck)
    if page is None:
        return None
    yield "pte_offset_map"
    if page.freed:
        raise KernelBugError("a PTE page is mapped after it was freed")
    return page


def pte_tryget_map_lock(mm: Mm, slot: int, *, recheck: bool = False) -> Steps[PtePage | None]:
    """pte_tryget_map, and take the lock of that PTE page.

    The model has no lock: code that needs it runs between two yields.
    """
    page = yield from pte_tryget_map(mm, slot, recheck=recheck)
    return page


def free_user_pte(mm: Mm, slot: int, *, expected: PtePage | None = None) -> Steps[None]:
    """Take the PTE page of `slot` out of the tree, under the PMD lock.

    As posted, the helper checks only the PMD entry. It does not check whether the page is
    the one that the caller found at zero, nor whether its count is still zero. With
    `expected` it checks both, which the series lacks (see `shadow.pte_ref.races`).
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
    """Attempt to free the PTE page of `slot`, if nothing holds it.

    Args:
        mm: the address space.
        slot: first address of the slot.
        switch_back: whether a failed attempt goes back to percpu mode, as in the posted
            series. The author's correction of the next day leaves the page in atomic mode.
        recheck: see `free_user_pte`, `expected`.

    Returns:
        Whether the count was zero.
    """
    assert slot % mm.geometry.slot == 0
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
    """set_pte_at: an entry that changes from none takes a reference.

    Raises:
        KernelBugError: nobody holds the page, not even the caller.
    """
    if not mm.is_init_mm:
        if page.ref.is_zero():
            raise KernelBugError("set_pte_at in a PTE page that nobody holds")
        if page.entries[index] is Entry.NONE and new is not Entry.NONE:
            page.ref.get()
    page.entries[index] = new


def track_pte_clear(mm: Mm, page: PtePage, index: int) -> None:
    """ptep_get_and_clear and similar functions: an entry that was not none puts its reference.

    Raises:
        KernelBugError: nobody holds the page.
    """
    if not mm.is_init_mm:
        if page.ref.is_zero():
            raise KernelBugError("ptep_get_and_clear in a PTE page that nobody holds")
        if page.entries[index] is not Entry.NONE:
            page.ref.put()
    page.entries[index] = Entry.NONE
