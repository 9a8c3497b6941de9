"""A process under each policy, event by event, as plainly as it can be said.

Anonymous private memory. Entries are the same under all policies: what differs is
which PTE pages are there. `none` and `pt_reclaim` are sets of slots; `pte_ref` is
an `Mm` that nothing but the ten helpers touch. Which helper a kernel path calls,
and with which `switch_back`, is the RFC's patches 11 to 15 (reference/semantics.md
A3 and A4).
"""

from collections.abc import Iterator

from shadow.geometry import ENTRIES, PAGE, SLOT
from shadow.policy import Policy
from shadow.pte_ref.helpers import (
    alone,
    pte_put,
    pte_ref_init,
    pte_tryget_map_lock,
    track_pte_clear,
    track_pte_set,
    try_to_free_user_pte,
)
from shadow.pte_ref.mm import Entry, Mm, PtePage
from shadow.pte_ref.vmas import Vmas

__all__ = ("Process",)


class Process:
    """One process.

    Args:
        switch_back: whether a failed attempt of pte_ref goes back to percpu mode,
            as the series was posted; otherwise as its author corrected it.

    Attributes:
        mm: the PTE pages of pte_ref.
        kept: slots with a PTE page under `none` and `pt_reclaim`.
        entries: pages that have an entry, by number, and which are lazyfree.
        vmas: what is mapped.
        freed: PTE pages that each policy freed, other than by free_pgtables.
        attempts: how often each policy looked.
        grace_periods: RCU grace periods that switches to atomic mode waited for.
    """

    def __init__(self, *, switch_back: bool = False) -> None:
        self.mm = Mm()
        self.kept: dict[Policy, set[int]] = {Policy.NONE: set(), Policy.PT_RECLAIM: set()}
        self.entries: dict[int, Entry] = {}
        self.vmas = Vmas()
        self.freed = dict.fromkeys(Policy, 0)
        self.attempts = dict.fromkeys(Policy, 0)
        self.grace_periods = 0
        self._switch_back = switch_back

    def tables(self, policy: Policy) -> set[int]:
        """First addresses of the slots that have a PTE page."""
        return set(self.mm.pmds) if policy is Policy.PTE_REF else self.kept[policy]

    def empty(self, policy: Policy) -> set[int]:
        """Those of `tables` that map nothing."""
        used = {page * PAGE // SLOT * SLOT for page in self.entries}
        return self.tables(policy) - used

    def _visit(self, slot: int) -> PtePage | None:
        """A walker enters under pte_ref; what it frees on the way is counted."""
        before = self.mm.freed
        page = alone(pte_tryget_map_lock(self.mm, slot))
        self.freed[Policy.PTE_REF] += self.mm.freed - before
        return page

    def _attempt(self, slot: int, *, switch_back: bool) -> None:
        page = self.mm.pmds.get(slot)
        if not isinstance(page, PtePage):
            return
        before, waited = self.mm.freed, page.ref.grace_periods
        counted = page.ref
        alone(try_to_free_user_pte(self.mm, slot, switch_back=switch_back and self._switch_back))
        self.attempts[Policy.PTE_REF] += 1
        self.freed[Policy.PTE_REF] += self.mm.freed - before
        self.grace_periods += counted.grace_periods - waited

    def _slots(self, pages: set[int]) -> Iterator[tuple[int, set[int]]]:
        """The slots that a walker over these pages enters: each with its pages."""
        for slot in sorted({page * PAGE // SLOT * SLOT for page in pages}):
            if slot in self.kept[Policy.NONE]:
                yield slot, {page for page in pages if page * PAGE // SLOT * SLOT == slot}

    def _by_vma(self, start: int, length: int) -> Iterator[set[int]]:
        """The mapped pages of [start, start + length), VMA by VMA."""
        pages = _pages(start, length)
        for vma in self.vmas.over(min(pages), max(pages) + 1):
            yield pages & set(range(vma.start, vma.end))

    def map(self, start: int, length: int) -> None:
        """Mmap with MAP_FIXED, readable and writable."""
        self.unmap(start, length)
        self.vmas.map(start // PAGE, (start + length) // PAGE)

    def protect(self, start: int, length: int) -> None:
        """Mprotect to PROT_NONE, up to the first hole."""
        self.vmas.protect(start // PAGE, (start + length) // PAGE)

    def touch(self, start: int, length: int) -> None:
        """A write fault at each page; one that may not be written to changes nothing."""
        for page in sorted(_pages(start, length)):
            if self.vmas.write(page):
                self._fault(page)

    def _fault(self, page: int) -> None:
        slot, index = page * PAGE // SLOT * SLOT, page % ENTRIES
        held = self._visit(slot)
        if held is None:
            new = PtePage()
            pte_ref_init(new)
            self.mm.pmds[slot] = new
            self.mm.nr_ptes += 1
            held = self._visit(slot)
            assert held is new
        track_pte_set(self.mm, held, index, Entry.PRESENT)
        pte_put(held)
        for kept in self.kept.values():
            kept.add(slot)
        self.entries[page] = Entry.PRESENT

    def _clear(self, slot: int, pages: set[int]) -> None:
        """zap_pte_range over these pages of one slot."""
        held = self._visit(slot)
        for page in pages:
            self.entries.pop(page, None)
            if held:
                track_pte_clear(self.mm, held, page % ENTRIES)
        if held:
            pte_put(held)

    def dontneed(self, start: int, length: int) -> None:
        """MADV_DONTNEED, VMA by VMA."""
        for vma in self._by_vma(start, length):
            for slot, pages in self._slots(vma):
                self._clear(slot, pages)
                if len(pages) == ENTRIES and slot in self.kept[Policy.PT_RECLAIM]:
                    self.attempts[Policy.PT_RECLAIM] += 1
                    self.kept[Policy.PT_RECLAIM].discard(slot)
                    self.freed[Policy.PT_RECLAIM] += 1
                self._attempt(slot, switch_back=True)

    def free(self, start: int, length: int) -> None:
        """MADV_FREE: stays atomic where a page was marked."""
        for vma in self._by_vma(start, length):
            for slot, pages in self._slots(vma):
                held = self._visit(slot)
                marked = pages & self.entries.keys()
                for page in marked:
                    self.entries[page] = Entry.LAZYFREE
                    if held:
                        track_pte_set(self.mm, held, page % ENTRIES, Entry.LAZYFREE)
                if held:
                    pte_put(held)
                self._attempt(slot, switch_back=not marked)

    def unmap(self, start: int, length: int) -> None:
        """Munmap: no attempt; free_pgtables takes slots in which no VMA is left.

        VMA by VMA, so a slot that two share is visited twice, and what the first
        visit has left at zero in atomic mode the second frees.
        """
        gone = set().union(*self._by_vma(start, length))
        for vma in self._by_vma(start, length):
            for slot, pages in self._slots(vma):
                self._clear(slot, pages)
        self.vmas.unmap(start // PAGE, (start + length) // PAGE)
        for slot, _ in list(self._slots(gone)):
            if not self.vmas.over(slot // PAGE, (slot + SLOT) // PAGE):
                for kept in self.kept.values():
                    kept.discard(slot)
                if self.mm.pmds.pop(slot, None):
                    self.mm.nr_ptes -= 1


def _pages(start: int, length: int) -> set[int]:
    return set(range(start // PAGE, (start + length) // PAGE))
