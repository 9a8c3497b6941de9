# SPDX-License-Identifier: GPL-2.0-only
"""The page tables of one address space under each policy, in the simplest form.

Entries are the same under all policies; only the tables differ. Under `none`, `pt_reclaim` and
`dontneed_zero` the PTE pages are a set of slots. Under `pte_ref` they are an `Mm`, which only
the ten helpers change. The RFC's patches 11 to 15 define which helper a kernel path calls,
and with which `switch_back` (docs/reference/semantics.md A3 and A4). The key of a table
above the PTE pages is (level, first address); a PMD page has level 2.
"""

from collections.abc import Callable, Collection, Iterator

from shadow.geometry import Geometry
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

__all__ = ("Tables",)


class Tables:
    """The tables, entries and counters of one address space.

    Args:
        geometry: the shape of the page tables.
        switch_back: whether a failed attempt of pte_ref goes back to percpu mode, as in the
            posted series; otherwise it stays in atomic mode, as in the author's correction.

    Attributes:
        mm: the PTE pages of pte_ref.
        kept: slots with a PTE page under each policy but `pte_ref`.
        upper: the tables above the PTE pages, except the PGD.
        entries: the entries that are not none, by page number.
        freed: number of PTE pages that each policy freed, other than by free_pgtables.
        attempts: number of attempts of each policy.
        grace_periods: RCU grace periods that switches to atomic mode waited for.
    """

    def __init__(self, *, geometry: Geometry, switch_back: bool) -> None:
        self.geometry, self.switch_back = geometry, switch_back
        self.mm = Mm(geometry=geometry)
        self.kept: dict[Policy, set[int]] = {
            policy: set() for policy in Policy if policy is not Policy.PTE_REF
        }
        self.upper: dict[Policy, set[tuple[int, int]]] = {policy: set() for policy in Policy}
        self.entries: dict[int, Entry] = {}
        self.freed = dict.fromkeys(Policy, 0)
        self.attempts = dict.fromkeys(Policy, 0)
        self.grace_periods = 0

    def slot_of(self, page: int) -> int:
        """First address of the slot that this page lies in."""
        return page * self.geometry.page & -self.geometry.slot

    def covers(self, level: int) -> int:
        """Bytes under one table of this level."""
        return self.geometry.span(level + 1)

    def slots(self, policy: Policy) -> set[int]:
        """First addresses of the slots that have a PTE page."""
        return set(self.mm.pmds) if policy is Policy.PTE_REF else self.kept[policy]

    def empty(self, policy: Policy) -> set[int]:
        """The `slots` that map nothing."""
        return self.slots(policy) - {self.slot_of(page) for page in self.entries}

    def chunks(self, pages: range) -> Iterator[tuple[int, range]]:
        """The slots with a PTE page that a walker over `pages` visits, with its pages in each."""
        for slot in sorted(self.slots(Policy.NONE)):
            first = slot // self.geometry.page
            part = range(max(first, pages.start), min(first + self.geometry.entries, pages.stop))
            if part:
                yield slot, part

    def visit(self, slot: int) -> PtePage | None:
        """Let a walker enter under pte_ref, and count the PTE pages that it frees."""
        before = self.mm.freed
        page = alone(pte_tryget_map_lock(self.mm, slot))
        self.freed[Policy.PTE_REF] += self.mm.freed - before
        return page

    def _enter(self, slot: int) -> PtePage:
        """Enter like `visit`, but allocate a missing PTE page (pte_alloc)."""
        held = self.visit(slot)
        if held is None:
            new = PtePage([Entry.NONE] * self.geometry.entries)
            pte_ref_init(new)
            self.mm.pmds[slot] = new
            self.mm.nr_ptes += 1
            held = self.visit(slot)
            assert held is new
        return held

    def _grow(self, policy: Policy, slot: int, down_to: int = 2) -> None:
        """Add the missing tables from the PGD down to this level."""
        for level in range(down_to, self.geometry.levels):
            self.upper[policy].add((level, slot // self.covers(level) * self.covers(level)))

    def fill(self, page: int, entry: Entry = Entry.PRESENT) -> None:
        """Set the entry of this page, as a fault or a populating call does."""
        slot = self.slot_of(page)
        held = self._enter(slot)
        track_pte_set(self.mm, held, page % self.geometry.entries, entry)
        pte_put(held)
        for kept in self.kept.values():
            kept.add(slot)
        for policy in Policy:
            self._grow(policy, slot)
        self.entries[page] = entry

    def marks(self, pages: range) -> set[int]:
        """The pages among `pages` that have a guard marker."""
        return {page for page in pages if self.entries.get(page) is Entry.MARKER}

    def clear(self, slot: int, pages: Collection[int]) -> None:
        """Clear the entries of these pages, all in one slot."""
        held = self.visit(slot)
        for page in pages:
            self.entries.pop(page, None)
            if held:
                track_pte_clear(self.mm, held, page % self.geometry.entries)
        if held:
            pte_put(held)

    def mark_lazy(self, slot: int, pages: range) -> bool:
        """Apply MADV_FREE to these pages, all in one slot; return whether it marked any."""
        held = self.visit(slot)
        marked = (self.entries.keys() & set(pages)) - self.marks(pages)
        for page in marked:
            self.entries[page] = Entry.LAZYFREE
            if held:
                track_pte_set(self.mm, held, page % self.geometry.entries, Entry.LAZYFREE)
        if held:
            pte_put(held)
        return bool(marked)

    def look(self, policy: Policy, slot: int) -> None:
        """Free the PTE page of a slot under this policy, if all its 512 entries are none."""
        if slot in self.kept[policy]:
            self.attempts[policy] += 1
            if slot in self.empty(policy):
                self.freed[policy] += 1
                self.kept[policy].discard(slot)

    def attempt(self, slot: int, *, switch_back: bool) -> None:
        """Make an attempt of pte_ref at a slot; `switch_back` is that of this path as posted."""
        page = self.mm.pmds.get(slot)
        if not isinstance(page, PtePage):
            return
        counted = page.ref
        before, waited = self.mm.freed, counted.grace_periods
        alone(try_to_free_user_pte(self.mm, slot, switch_back=switch_back and self.switch_back))
        self.attempts[Policy.PTE_REF] += 1
        self.freed[Policy.PTE_REF] += self.mm.freed - before
        self.grace_periods += counted.grace_periods - waited

    def free_between(self, gone: list[range], mapped: Callable[[int, int], object]) -> None:
        """free_pgtables: free the tables over `gone` whose whole span is unmapped."""

        def goes(first: int, span: int) -> bool:
            over = any(
                p.start * self.geometry.page < first + span and first < p.stop * self.geometry.page
                for p in gone
            )
            return over and not mapped(
                first // self.geometry.page, (first + span) // self.geometry.page
            )

        for policy in Policy:
            for slot in [slot for slot in self.slots(policy) if goes(slot, self.geometry.slot)]:
                self._take(policy, slot)
            self.upper[policy] -= {t for t in self.upper[policy] if goes(t[1], self.covers(t[0]))}

    def _take(self, policy: Policy, slot: int) -> None:
        """Remove the PTE page of a slot, without an attempt."""
        if policy is Policy.PTE_REF:
            del self.mm.pmds[slot]
            self.mm.nr_ptes -= 1
        else:
            self.kept[policy].discard(slot)

    def move_pud_entry(self, old: int, new: int) -> None:
        """Move a PMD page from `old` to `new` with everything below it (move_normal_pud)."""
        for upper in self.upper.values():
            if (2, old) in upper:
                upper.remove((2, old))
                upper.add((2, new))
        for policy in Policy:
            if (2, new) in self.upper[policy]:
                self._grow(policy, new)
        for slot in [
            slot for slot in self.slots(Policy.NONE) if old <= slot < old + self.geometry.pmd_span
        ]:
            self._move_pmd_entry(slot, slot - old + new)

    def _move_pmd_entry(self, old: int, new: int) -> None:
        """Move a PTE page from slot `old` to `new` with all its entries (move_normal_pmd)."""
        for policy in Policy:
            if old in self.slots(policy):
                self._grow(policy, new)
        for kept in self.kept.values():
            if old in kept:
                kept.remove(old)
                kept.add(new)
        if old in self.mm.pmds:
            self.mm.pmds[new] = self.mm.pmds.pop(old)
        for page in [page for page in self.entries if self.slot_of(page) == old]:
            self.entries[page + (new - old) // self.geometry.page] = self.entries.pop(page)

    def move(self, old: int, new: int, count: int) -> None:
        """Move `count` pages from `old` to `new`, within one slot on either side."""
        source, target = self.slot_of(old), self.slot_of(new)
        for policy in Policy:
            if (2, source // self.geometry.pmd_span * self.geometry.pmd_span) in self.upper[policy]:
                self._grow(policy, target, down_to=3)
        if count == self.geometry.entries and target not in self.slots(Policy.NONE):
            self._move_pmd_entry(source, target)
            return
        held = self.visit(source)
        onto = None
        if held:
            self._grow(Policy.PTE_REF, target)
            onto = self._enter(target)
        for policy, kept in self.kept.items():
            if source in kept:
                self._grow(policy, target)
                kept.add(target)
        for page in range(old, old + count):
            entry = self.entries.pop(page, None)
            if entry:
                assert held is not None
                assert onto is not None
                self.entries[page - old + new] = entry
                track_pte_clear(self.mm, held, page % self.geometry.entries)
                track_pte_set(self.mm, onto, (page - old + new) % self.geometry.entries, entry)
        if held and onto:
            pte_put(onto)
            pte_put(held)

    def copy_from(self, parent: "Tables", pages: range) -> None:
        """copy_page_range: copy the parent's tables over these pages, including empty PTE pages."""
        start, end = pages.start * self.geometry.page, pages.stop * self.geometry.page
        for policy in Policy:
            for level, first in parent.upper[policy]:
                if start < first + self.covers(level) and first < end:
                    self.upper[policy].add((level, first))
        for slot, part in parent.chunks(pages):
            for policy, kept in self.kept.items():
                if slot in parent.kept[policy]:
                    kept.add(slot)
            if slot in parent.mm.pmds:
                held = self._enter(slot)
                for page in parent.entries.keys() & set(part):
                    track_pte_set(self.mm, held, page % self.geometry.entries, parent.entries[page])
                    self.entries[page] = parent.entries[page]
                pte_put(held)
