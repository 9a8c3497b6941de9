"""A page table as Python dicts and sets: slow, small, and obviously right.

It knows one VMA list of private anonymous memory with equal flags, so VMAs are
the maximal runs of mapped pages that were ever contiguous when mapped; that is
enough for zaps, faults and munmap under all three policies.
"""

from dataclasses import dataclass, field

from shadow.geometry import ENTRIES, PAGE, SLOT
from shadow.policy import Policy

__all__ = ("Naive",)


@dataclass
class Naive:
    """Entries by page number; PTE pages by slot number, one set a policy."""

    mapped: set[int] = field(default_factory=set)
    entries: set[int] = field(default_factory=set)
    lazy: set[int] = field(default_factory=set)
    tables: dict[Policy, set[int]] = field(default_factory=lambda: {p: set() for p in Policy})
    atomic: set[int] = field(default_factory=set)
    freed: dict[Policy, int] = field(default_factory=lambda: dict.fromkeys(Policy, 0))

    def _is_empty(self, slot: int) -> bool:
        return not any(page // ENTRIES == slot for page in self.entries)

    def _free(self, policy: Policy, slot: int) -> None:
        self.tables[policy].discard(slot)
        self.freed[policy] += 1
        if policy is Policy.PTE_REF:
            self.atomic.discard(slot)

    def _walker(self, slot: int) -> None:
        if slot in self.atomic and slot in self.tables[Policy.PTE_REF] and self._is_empty(slot):
            self._free(Policy.PTE_REF, slot)

    def _attempt(self, slot: int) -> None:
        if slot in self.tables[Policy.PTE_REF]:
            self.atomic.add(slot)
            if self._is_empty(slot):
                self._free(Policy.PTE_REF, slot)

    def map(self, start: int, length: int) -> None:
        """Mmap with MAP_FIXED."""
        self.unmap(start, length)
        self.mapped |= _pages(start, length)

    def touch(self, start: int, length: int) -> None:
        """Write to every mapped page."""
        for page in sorted(_pages(start, length) & self.mapped):
            self._walker(page // ENTRIES)
            for tables in self.tables.values():
                tables.add(page // ENTRIES)
            self.entries.add(page)
            self.lazy.discard(page)

    def dontneed(self, start: int, length: int) -> None:
        """Zap; each run of mapped pages is one VMA."""
        for run in _runs(_pages(start, length) & self.mapped):
            for slot in sorted({page // ENTRIES for page in run} & self.tables[Policy.NONE]):
                whole = set(range(slot * ENTRIES, (slot + 1) * ENTRIES))
                self._walker(slot)
                self.entries -= whole & run
                self.lazy -= whole & run
                if whole <= run and slot in self.tables[Policy.PT_RECLAIM]:
                    self._free(Policy.PT_RECLAIM, slot)
                self._attempt(slot)

    def free(self, start: int, length: int) -> None:
        """Make entries lazyfree."""
        for run in _runs(_pages(start, length) & self.mapped):
            for slot in sorted({page // ENTRIES for page in run} & self.tables[Policy.NONE]):
                self._walker(slot)
                self.lazy |= {page for page in run & self.entries if page // ENTRIES == slot}
                self._attempt(slot)

    def unmap(self, start: int, length: int) -> None:
        """Munmap: free_pgtables takes slots in which no VMA is left."""
        gone = _pages(start, length) & self.mapped
        for slot in sorted({page // ENTRIES for page in gone} & self.tables[Policy.NONE]):
            self._walker(slot)
        self.mapped -= gone
        self.entries -= gone
        self.lazy -= gone
        for slot in {page // ENTRIES for page in gone}:
            if not self.mapped & set(range(slot * ENTRIES, (slot + 1) * ENTRIES)):
                for tables in self.tables.values():
                    tables.discard(slot)
                self.atomic.discard(slot)

    def empty(self, policy: Policy) -> set[int]:
        """Slots whose PTE page is empty."""
        return {slot for slot in self.tables[policy] if self._is_empty(slot)}


def _pages(start: int, length: int) -> set[int]:
    assert SLOT == ENTRIES * PAGE
    return set(range(start // PAGE, (start + length) // PAGE))


def _runs(pages: set[int]) -> list[set[int]]:
    runs: list[set[int]] = []
    for page in sorted(pages):
        if runs and page - 1 in runs[-1]:
            runs[-1].add(page)
        else:
            runs.append({page})
    return runs
