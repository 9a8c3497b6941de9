# SPDX-License-Identifier: GPL-2.0-only
"""The races in the RFC's documentation, as threads that run in every order.

- A page table walker, MADV_DONTNEED and a page fault all take mmap_lock for reading, so
  they do not exclude each other. The walker breaks unless it holds the PTE page
  (pte_tryget).
- A walker and munmap exclude each other, because munmap takes the write lock.
- Fast GUP takes no reference but has interrupts off. It is correct because call_rcu frees
  the PTE page; it would be wrong if the kernel freed the page at once.
- The documentation lacks one race: two MADV_DONTNEED and a fault. free_user_pte checks
  only the PMD entry. So a delayed caller takes the new PTE page of a later fault, while
  the fault holds that page or has filled it. The posted series has this race. If
  free_user_pte checks the page and its count again under the PMD lock, no order breaks.

`python -m shadow.pte_ref.races` explores all and prints the shortest break of each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shadow.pte_ref.errors import KernelBugError
from shadow.pte_ref.helpers import (
    Steps,
    alone,
    pte_put,
    pte_ref_init,
    pte_tryget_map_lock,
    track_pte_clear,
    track_pte_set,
    try_to_free_user_pte,
)
from shadow.pte_ref.interleave import Broken, Thread, Wait, explore
from shadow.pte_ref.mm import LEAF, Entry, Mm, PtePage, Rcu

__all__ = ("RACES", "Race", "outcome", "report")

_SLOT = 0
_INDEX = 3


class _AtOnce(Rcu):
    """The RCU of a kernel that frees without waiting for readers."""

    def call(self, callback: Callable[[], None]) -> None:
        """Do not wait."""
        callback()


@dataclass
class _World:
    """One slot with a PTE page that has one entry, and the process's mmap_lock."""

    mm: Mm = field(default_factory=Mm)
    readers: int = 0
    writer: bool = False

    def __post_init__(self) -> None:
        alone(_fault(self.mm, huge=False))

    def reading(self, steps: Thread) -> Thread:
        """A thread under mmap_read_lock."""
        yield Wait("mmap_read_lock", lambda: not self.writer)
        self.readers += 1
        yield from steps
        self.readers -= 1

    def writing(self, steps: Thread) -> Thread:
        """A thread under mmap_write_lock."""
        yield Wait("mmap_write_lock", lambda: not self.writer and self.readers == 0)
        self.writer = True
        yield from steps
        self.writer = False


def _fault(mm: Mm, *, huge: bool, recheck: bool = False) -> Steps[None]:
    """A page fault: maps a huge page, or allocates a missing PTE page and sets the entry."""
    yield "pmd_none"
    if _SLOT not in mm.pmds:
        if huge:
            mm.pmds[_SLOT] = LEAF
            return
        page = PtePage()
        pte_ref_init(page)
        mm.pmds[_SLOT] = page
        mm.nr_ptes += 1
    held = yield from pte_tryget_map_lock(mm, _SLOT, recheck=recheck)
    if held is None:
        return  # the CPU retries the fault
    track_pte_set(mm, held, _INDEX, Entry.PRESENT)
    pte_put(held)


def _dontneed(mm: Mm, *, recheck: bool = False) -> Steps[None]:
    """MADV_DONTNEED: zap_pte_range, and the attempt at its end."""
    page = yield from pte_tryget_map_lock(mm, _SLOT, recheck=recheck)
    if page is None:
        return
    yield "zap"
    track_pte_clear(mm, page, _INDEX)
    pte_put(page)
    yield from try_to_free_user_pte(mm, _SLOT, switch_back=False, recheck=recheck)


def _walk(mm: Mm, page: PtePage) -> None:
    """Access the entries of a page, on the assumption that it is in the tree."""
    if page.freed:
        raise KernelBugError("the walker reads a PTE page that was freed")
    if mm.pmds.get(_SLOT) is not page:
        raise KernelBugError("the walker changes a PTE page that is not in the tree any more")


def _walker_unguarded(mm: Mm) -> Steps[None]:
    """A walker before the series: it trusts the PMD entry after one check."""
    yield "pmd_trans_unstable"
    if not isinstance(mm.pmds.get(_SLOT), PtePage):
        return
    yield "pte_offset_map_lock"
    page = mm.pmds.get(_SLOT)
    if not isinstance(page, PtePage):
        raise KernelBugError("the walker takes a PMD entry for a PTE page that is none or huge")
    yield "walk"
    _walk(mm, page)


def _walker(mm: Mm) -> Steps[None]:
    """A walker with the series: it holds the PTE page."""
    page = yield from pte_tryget_map_lock(mm, _SLOT)
    if page is None:
        return
    yield "walk"
    _walk(mm, page)
    pte_put(page)


def _munmap(mm: Mm) -> Steps[None]:
    """Munmap: free_pgtables frees the PTE page, whatever its count."""
    yield "free_pgtables"
    page = mm.pmds.pop(_SLOT, None)
    if isinstance(page, PtePage):
        mm.nr_ptes -= 1
        page.freed = True


def _fast_gup(mm: Mm) -> Steps[None]:
    """get_user_pages_fast: no lock, no reference, interrupts off."""
    reader = object()
    yield "local_irq_save"
    mm.rcu.lock(reader)
    yield "gup_pgd_range"
    page = mm.pmds.get(_SLOT)
    if isinstance(page, PtePage):
        yield "gup_pte_range"
        if page.freed:
            raise KernelBugError("fast GUP reads a PTE page that was freed")
    yield "local_irq_restore"
    mm.rcu.unlock(reader)


@dataclass(frozen=True)
class Race:
    """Threads to run in every order.

    Attributes:
        name: the race to examine.
        breaks: whether an order breaks the kernel.
        world: builds new threads.
    """

    name: str
    breaks: bool
    world: Callable[[], Mapping[str, Thread]]


def _walker_dontneed_fault(guarded: bool, huge: bool) -> Callable[[], Mapping[str, Thread]]:
    def world() -> Mapping[str, Thread]:
        w = _World()
        return {
            "A walker": _walker(w.mm) if guarded else _walker_unguarded(w.mm),
            "B MADV_DONTNEED": _dontneed(w.mm),
            "C page fault": _fault(w.mm, huge=huge),
        }

    return world


def _walker_munmap() -> Mapping[str, Thread]:
    w = _World()
    return {
        "A walker": w.reading(_walker_unguarded(w.mm)),
        "B munmap": w.writing(_munmap(w.mm)),
    }


def _gup_dontneed(rcu: Callable[[], Rcu]) -> Callable[[], Mapping[str, Thread]]:
    def world() -> Mapping[str, Thread]:
        w = _World(Mm(rcu=rcu()))
        return {"A fast GUP": _fast_gup(w.mm), "B MADV_DONTNEED": _dontneed(w.mm)}

    return world


def _two_dontneed_fault(recheck: bool) -> Callable[[], Mapping[str, Thread]]:
    def world() -> Mapping[str, Thread]:
        w = _World()
        return {
            "A MADV_DONTNEED": _dontneed(w.mm, recheck=recheck),
            "B MADV_DONTNEED": _dontneed(w.mm, recheck=recheck),
            "C page fault": _fault(w.mm, huge=False, recheck=recheck),
        }

    return world


RACES = (
    Race("walker without pte_tryget, huge fault", True, _walker_dontneed_fault(False, True)),
    Race("walker without pte_tryget, small fault", True, _walker_dontneed_fault(False, False)),
    Race("walker with pte_tryget, huge fault", False, _walker_dontneed_fault(True, True)),
    Race("walker and munmap", False, _walker_munmap),
    Race("fast GUP, freed by call_rcu", False, _gup_dontneed(Rcu)),
    Race("fast GUP, freed at once", True, _gup_dontneed(_AtOnce)),
    Race("two MADV_DONTNEED and a fault, as posted", True, _two_dontneed_fault(False)),
    Race("two MADV_DONTNEED and a fault, rechecked", False, _two_dontneed_fault(True)),
)


def outcome(race: Race) -> tuple[int, Broken | None]:
    """The number of orders, and the shortest one that breaks the kernel, if any."""
    orders, shortest = 0, None
    for broken in explore(race.world):
        orders += 1
        if broken and (shortest is None or len(broken.steps) < len(shortest.steps)):
            shortest = broken
    return orders, shortest


def report(races: Sequence[Race]) -> None:
    """Print the number of orders of each race, and the shortest order that breaks the kernel."""
    for race in races:
        orders, broken = outcome(race)
        print(f"{race.name}: {orders:,} orders, {'broken' if broken else 'none breaks'}")
        if broken:
            print("\n".join(f"    {line}" for line in str(broken).splitlines()))


if __name__ == "__main__":
    report(RACES)
