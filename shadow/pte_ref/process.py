# SPDX-License-Identifier: GPL-2.0-only
"""A process, call by call: the effect of each call on VMAs and page tables.

Memory is private or shared anonymous memory, either readable and writable or PROT_NONE.
Addresses and lengths are in bytes, page aligned. Each call has succeeded, or stands for
the part that a failed call has done.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from shadow.geometry import X86_64, Geometry
from shadow.policy import Policy
from shadow.pte_ref.mm import Entry
from shadow.pte_ref.moves import move_page_tables
from shadow.pte_ref.tables import Tables
from shadow.pte_ref.vmas import Vma, Vmas

__all__ = ("Hint", "SpecifiedProcess")

Hint = Literal[
    "dontfork",
    "wipeonfork",
    "hugepage",
    "nohugepage",
    "dontdump",
    "mergeable",
    "random",
    "sequential",
    "sealed",
]
_EXCLUSIVE: tuple[frozenset[Hint], ...] = (
    frozenset(("hugepage", "nohugepage")),
    frozenset(("random", "sequential")),
)
"""Pairs of hints that exclude each other."""
Label = Literal["name", "policy", "key"]


class SpecifiedProcess:
    """One process.

    Args:
        geometry: the shape of its page tables.
        switch_back: see `Tables`.
    """

    def __init__(self, *, geometry: Geometry = X86_64, switch_back: bool = False) -> None:
        self._page = geometry.page
        self.tables = Tables(geometry=geometry, switch_back=switch_back)
        self.vmas = Vmas()
        self._break = 0
        self._lock_future = False

    def _parts(self, start: int, length: int) -> Iterator[tuple[Vma, range]]:
        """The VMAs of [start, start + length), each with its pages in that range."""
        first, end = start // self._page, (start + length) // self._page
        for vma in self.vmas.over(first, end):
            yield vma, vma.part(first, end)

    def map(
        self,
        start: int,
        length: int,
        *,
        writable: bool = True,
        shared: bool = False,
        locked: bool = False,
        populate: bool = False,
    ) -> None:
        """Mmap with MAP_FIXED."""
        self.unmap(start, length)
        locked = locked or self._lock_future
        vma = Vma(start // self._page, (start + length) // self._page, writable, writable, locked)
        if shared:
            vma = replace(vma, accounted=False, shared=self.vmas.number())
        self.vmas.add(vma)
        if locked or populate:
            self._populate(start, length, strict=False)

    def unmap(self, start: int, length: int) -> None:
        """Munmap: no attempt; free_pgtables frees the tables without any VMA over them.

        The walk goes VMA by VMA, so it visits a slot that two VMAs share twice. If the first
        visit leaves the count at zero in atomic mode, the second visit frees the PTE page.
        """
        gone = [part for _, part in self._parts(start, length)]
        for part in gone:
            for slot, pages in self.tables.chunks(part):
                self.tables.clear(slot, pages)
        self.vmas.unmap(start // self._page, (start + length) // self._page)
        self.tables.free_between(gone, self.vmas.over)

    def brk(self, address: int) -> None:
        """Set the program break to `address`; it is unknown before the first call."""
        before, self._break = self._break, address
        if before and address > before:
            vma = Vma(before // self._page, address // self._page, locked=self._lock_future)
            self.vmas.add(vma)
            if vma.locked:
                self._populate(before, address - before, strict=False)
        elif address < before:
            self.unmap(address, before - address)

    def protect(self, start: int, length: int, *, writable: bool = False) -> None:
        """Mprotect, up to the first hole."""
        first, end = start // self._page, (start + length) // self._page
        for piece in self.vmas.pieces(first, self.vmas.first_hole(first, end)):
            wakes = piece.locked and not piece.on_fault and writable and not piece.writable
            piece.writable = writable
            if not piece.shared:
                piece.accounted = writable or (piece.accounted and piece.anon is not None)
            if wakes and not piece.shared:
                self._populate(
                    piece.start * self._page, (piece.end - piece.start) * self._page, strict=False
                )

    def advise(self, start: int, length: int, hint: Hint, *, on: bool) -> None:
        """Madvise with MADV_DONTFORK, MADV_HUGEPAGE and similar advice."""
        clear = next((each for each in _EXCLUSIVE if hint in each), frozenset((hint,)))
        for piece in self.vmas.pieces(start // self._page, (start + length) // self._page):
            if hint != "mergeable" or not piece.shared:  # KSM takes private memory only
                piece.hints = piece.hints - clear | (frozenset((hint,)) if on else frozenset())

    def label(self, start: int, length: int, label: Label, value: int) -> None:
        """PR_SET_VMA_ANON_NAME, mbind, or pkey_mprotect with unchanged access."""
        for piece in self.vmas.pieces(start // self._page, (start + length) // self._page):
            setattr(piece, label, value)

    def lock(self, start: int, length: int, *, on_fault: bool = False) -> None:
        """Mlock, up to the first hole; it fills the locked range only if there is no hole."""
        first, end = start // self._page, (start + length) // self._page
        done = self.vmas.first_hole(first, end)
        for piece in self.vmas.pieces(first, done):
            piece.locked, piece.on_fault = True, on_fault
        if done == end and not on_fault:
            self._populate(start, length, strict=True)

    def unlock(self, start: int, length: int) -> None:
        """Munlock, up to the first hole."""
        first, end = start // self._page, (start + length) // self._page
        for piece in self.vmas.pieces(first, self.vmas.first_hole(first, end)):
            piece.locked = piece.on_fault = False

    def lock_future(self) -> None:
        """Mlockall with MCL_FUTURE."""
        self._lock_future = True

    def unlock_all(self) -> None:
        """Munlockall."""
        self._lock_future = False
        for vma in list(self.vmas.all):
            for piece in self.vmas.pieces(vma.start, vma.end):
                piece.locked = piece.on_fault = False

    def touch(self, start: int, length: int) -> None:
        """A write fault at each page; it changes nothing where writing is not allowed."""
        for page in range(start // self._page, (start + length) // self._page):
            if page not in self.tables.marks(range(page, page + 1)) and self.vmas.write(page):
                self.tables.fill(page)

    def populate(self, start: int, length: int) -> None:
        """MADV_POPULATE_WRITE, up to the first hole or PROT_NONE."""
        self._populate(start, length, strict=True)

    def _populate(self, start: int, length: int, *, strict: bool) -> None:
        """Give every page an entry.

        With `strict`, stop at a hole, PROT_NONE or a guard; otherwise go on at the next VMA.
        """
        at = start // self._page
        for vma, pages in self._parts(start, length):
            if strict and (pages.start > at or not vma.writable):
                return
            at = pages.stop
            if vma.writable:
                self.vmas.prepare(vma)
                stop = min(self.tables.marks(pages), default=pages.stop)
                for page in range(pages.start, stop):
                    self.tables.fill(page)
                if strict and stop < pages.stop:
                    return

    def dontneed(self, start: int, length: int, *, locked: bool = False) -> None:
        """MADV_DONTNEED, or with `locked` MADV_DONTNEED_LOCKED, up to a VMA that refuses.

        zap_pte_range runs for each VMA and each of its slots. Its rules under `dontneed_zero`
        (mm/memory.c of 7.3 with tools/vm_guests/dontneed-zero.patch):

        - Guard markers stay. A marker among the zapped entries (any_skipped) rules the look
          out; one elsewhere in the slot makes the look fail. A uffd-wp marker of shared memory
          does the same. All other entries become none: swap, migration, hwpoison.
        - A locked VMA ends the call with EINVAL. The VMAs before it are zapped, looks included.
        - Shared and file mappings are zapped and looked at like private ones. Truncation,
          MADV_REMOVE, MADV_FREE, guard calls and munmap do not look (reclaim_pt is unset).
        - A slot may serve several VMAs. Each VMA's zap ends with a look at all 512 entries,
          those of the other VMAs too. So a call over two VMAs frees the PTE page in the
          second look; and an empty part of a VMA that was never touched has no PTE page, so
          no look.
        - A part of a huge page is split first; the PTE page then has the other entries. The
          whole huge page goes with its deposited PTE page, without a look.
        - The zap drops the PTE lock before the look takes the PMD lock and the PTE lock. A
          fault in between makes the look fail, and the PTE page stays. See
          `shadow.pte_ref.look_races` for this and other orders.
        """
        for vma, part in self._parts(start, length):
            if vma.locked and not locked:
                return
            for slot, pages in self.tables.chunks(part):
                kept = self.tables.marks(pages)
                self.tables.clear(slot, set(pages) - kept)
                if not kept:
                    if len(pages) == self.tables.geometry.entries:
                        self.tables.look(Policy.PT_RECLAIM, slot)
                    self.tables.look(Policy.DONTNEED_ZERO, slot)
                self.tables.attempt(slot, switch_back=True)

    def file_lost(self, start: int, length: int, *, hole: bool) -> None:
        """Truncate a file or punch a `hole`: mappings lose pages; a hole keeps private copies."""
        for vma, part in self._parts(start, length):
            if vma.shared or not hole:
                self._zap(part)

    def fill(self, start: int, length: int) -> None:
        """Set the entries of all mapped pages, as userfaultfd does."""
        for vma, pages in self._parts(start, length):
            self.vmas.prepare(vma)
            for page in pages:
                self.tables.fill(page)

    def remove(self, start: int, length: int) -> None:
        """MADV_REMOVE, up to a VMA that refuses: frees the pages, but no rule of DONTNEED looks."""
        for vma, part in self._parts(start, length):
            if not vma.shared or not vma.writable or vma.locked:
                return
            self._zap(part)

    def _zap(self, part: range) -> None:
        """zap_page_range_single, without the look of DONTNEED."""
        for slot, pages in self.tables.chunks(part):
            self.tables.clear(slot, set(pages) - self.tables.marks(pages))
            self.tables.attempt(slot, switch_back=True)

    def guard(self, start: int, length: int) -> None:
        """MADV_GUARD_INSTALL, up to a VMA that refuses."""
        for vma, part in self._parts(start, length):
            if vma.locked:
                return
            if self.tables.entries.keys() & set(part) - self.tables.marks(part):
                self._zap(part)
            self.vmas.prepare(vma)
            for page in part:
                self.tables.fill(page, Entry.MARKER)

    def unguard(self, start: int, length: int) -> None:
        """MADV_GUARD_REMOVE: markers become none."""
        for _, part in self._parts(start, length):
            for slot, pages in self.tables.chunks(part):
                self.tables.clear(slot, self.tables.marks(pages))

    def free(self, start: int, length: int) -> None:
        """MADV_FREE, up to a VMA that refuses; the count stays atomic where a page was marked."""
        for vma, part in self._parts(start, length):
            if vma.shared or vma.locked:
                return
            for slot, pages in self.tables.chunks(part):
                marked = self.tables.mark_lazy(slot, pages)
                self.tables.attempt(slot, switch_back=not marked)

    def page_out(self, start: int, length: int) -> None:
        """MADV_PAGEOUT: lazyfree pages go, and the rmap walk frees PTE pages that it empties."""
        for vma, part in self._parts(start, length):
            if vma.locked:
                return
            for slot, pages in self.tables.chunks(part):
                for page in pages:
                    if self.tables.entries.get(page) is Entry.LAZYFREE:
                        self.tables.clear(slot, range(page, page + 1))
                if held := self.tables.visit(slot):
                    held.ref.put()

    def remap(
        self, old: int, length: int, new: int, new_length: int, *, dontunmap: bool = False
    ) -> None:
        """Mremap that returned `new`, which may be the old address."""
        vma = self.vmas.at(old // self._page)
        assert vma is not None
        if new == old:
            if new_length < length:
                self.unmap(old + new_length, length - new_length)
            elif new_length > length:
                end = (new + new_length) // self._page
                self.vmas.add(replace(vma, start=(old + length) // self._page, end=end))
                if vma.locked:
                    self._populate(old + length, new_length - length, strict=False)
            return
        if new_length < length:
            self.unmap(new, new_length)
            self.unmap(old + new_length, length - new_length)
            length = new_length
        one = next(self._parts(old, length))[1] == range(
            old // self._page, (old + length) // self._page
        )
        for _, part in list(self._parts(old, length)):
            grown = new_length if one else len(part) * self._page
            self._move(part, (new - old) // self._page, grown // self._page, dontunmap=dontunmap)

    def _move(self, pages: range, by: int, grown: int, *, dontunmap: bool) -> None:
        """Move these pages of one VMA by `by` pages; the target has `grown` pages.

        If a call moves several VMAs, mappings at the target of a hole between them stay.
        """
        vma = self.vmas.at(pages.start)
        assert vma is not None
        first = pages.start + by
        self.unmap(first * self._page, grown * self._page)
        moved = replace(vma, start=first, end=first + grown)
        moved.shift = 0 if vma.anon is None and not vma.shared else vma.shift - by
        locked = vma.locked
        self.vmas.add(moved)
        move_page_tables(self.tables, self.vmas, pages, by)
        if dontunmap:
            left = self.vmas.at(pages.start)
            assert left is not None
            left.locked = left.on_fault = False
            if (left.start, left.end) == (pages.start, pages.stop):
                left.anon, left.forked = None, False
        else:
            self.unmap(pages.start * self._page, len(pages) * self._page)
        if locked and grown > len(pages):
            self._populate(
                (first + len(pages)) * self._page, (grown - len(pages)) * self._page, strict=False
            )

    def fork(self) -> "SpecifiedProcess":
        """Create the child, as dup_mmap does.

        dup_mmap copies the tables only of VMAs with an anon_vma; faults fill the others again
        (mm/memory.c, vma_needs_copy). The child does not inherit locks.
        """
        child = SpecifiedProcess(geometry=self.tables.geometry, switch_back=self.tables.switch_back)
        child._break = self._break
        child.vmas = Vmas(self.vmas.number())
        for vma in self.vmas.all:
            if "dontfork" in vma.hints:
                continue
            copy = replace(vma, locked=False, on_fault=False)
            if "wipeonfork" in vma.hints:
                copy.anon, copy.forked = None, False
            elif vma.anon is not None:
                copy.anon, copy.forked = child.vmas.number(), True
                child.tables.copy_from(self.tables, range(vma.start, vma.end))
            child.vmas.all.append(copy)
        return child
