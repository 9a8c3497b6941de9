# SPDX-License-Identifier: GPL-2.0-only
"""The exact reader: it reads the page tables of any process through BPF, while it runs."""

import time
from collections.abc import Callable, Collection

import numpy as np
import numpy.typing as npt

from shadow.errors import NoSuchTargetError, UnsupportedHostError
from shadow.geometry import Geometry
from shadow.mappings import Tables
from shadow.table.page_set import Pages, Ranges
from shadow.table.state import HUGE_ANON, HUGE_FILE
from shadow.table.vma import VmaFlag
from shadow.table.vma_readings import is_torn
from tracer.census.address_space import AddressSpaces
from tracer.census.entries import ENTRY_KINDS, FORMATS, Entries, EntryFormat
from tracer.census.kernel_memory import KernelMemory
from tracer.census.own_entry import own_inaccessible_entry
from tracer.census.result import Census
from tracer.census.vmas import VmaTree
from tracer.census.walk import Addresses, Walk
from tracer.process.target import Target
from tracer.procfs import vm_pte_kib

__all__ = ("ExactReader",)

_TRIES = 20
_VMA_TRIES = 5
_KIB = 1024
_NONE = np.empty(0, np.int64)


def _huge_kinds(slots: Addresses, vmas: npt.NDArray[np.void]) -> npt.NDArray[np.uint8]:
    """Kinds of leaf PMDs, by their VMAs: HUGE_ANON, HUGE_FILE, or 0 for hugetlb."""
    if len(vmas) == 0:
        return np.full(len(slots), HUGE_ANON, np.uint8)
    vma = vmas[np.maximum(np.searchsorted(vmas["start"], slots, side="right") - 1, 0)]
    of_file = (vma["file"] != 0) | (vma["flags"] & VmaFlag.SHARED != 0)
    kinds = np.where(of_file, HUGE_FILE, HUGE_ANON)
    return np.where(vma["flags"] & VmaFlag.HUGETLB, 0, kinds).astype(np.uint8)


def _runs_in_slots(pages: Addresses, geometry: Geometry) -> Ranges:
    """Ranges that pages (first addresses, ascending) form, cut at slot boundaries."""
    begins = np.ones(len(pages), np.bool_)
    begins[1:] = (pages[1:] != pages[:-1] + geometry.page) | (pages[1:] % geometry.slot == 0)
    last = np.append(np.flatnonzero(begins)[1:] - 1, len(pages) - 1)
    return pages[begins], pages[last[: int(begins.sum())]] + geometry.page


class ExactReader:
    """Reads page tables through BPF.

    Args:
        geometry: the page tables of the running kernel.

    Raises:
        NotPermittedError: the kernel refuses BPF programs for lack of rights.
        UnsupportedHostError: BPF cannot read the memory of this kernel.
    """

    exact = True
    why = "page tables read through BPF"

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._known: dict[int, int] = {}
        """Address spaces (mm_struct) by pid, from the last readings."""
        self._form: EntryFormat = FORMATS[geometry.arch](geometry.page)
        self._memory = KernelMemory()
        try:
            self._spaces = AddressSpaces(self._memory)
            self._form.learn(
                own_inaccessible_entry(self._memory, self._spaces, geometry, self._form)
            )
            self._vma_tree = VmaTree(self._memory)
        except BaseException:
            self._memory.close()
            raise

    def _walk(
        self,
        target: Target,
        within: Ranges | None = None,
        between: Callable[[], object] = lambda: None,
    ) -> Walk:
        return Walk(
            self._memory,
            direct_map=self._spaces.direct_map,
            zero_page=self._spaces.zero_page,
            pgd=self._pgd(target),
            geometry=self._geometry,
            form=self._form,
            within=within,
            between=between,
        )

    def vmas(self, target: Target) -> npt.NDArray[np.void]:
        """The VMAs with all attributes that decide merging; see `Reader`."""
        for _ in range(_VMA_TRIES):
            vmas = target.vmas()
            mm = self.space(target) if self._vma_tree.readable else 0
            if mm:
                vmas = self._vma_tree.complete(mm, vmas)
            if not is_torn(vmas):
                break
        return vmas

    @property
    def direct_map(self) -> int | None:
        """See `Reader.direct_map`."""
        return self._spaces.direct_map

    def space(self, target: Target) -> int:
        """Kernel address of the mm_struct; 0: the process has none."""
        try:
            return self._spaces.mm(target.pid)
        except UnsupportedHostError:
            return 0  # a pointer led into memory that had just been freed

    def _pgd(self, target: Target) -> int:
        for tries in range(_TRIES):
            try:
                mm = self._known[target.pid] = self._spaces.mm(target.pid)
                if mm:
                    return self._spaces.pgd(mm)
            except UnsupportedHostError:
                # A pointer led into memory that an exit or an execve had just freed.
                if target.alive() and tries == _TRIES - 1:
                    raise
            if not target.alive():
                break
        raise NoSuchTargetError(f"Process {target.pid} has ended.")

    def pages(
        self,
        target: Target,
        vmas: npt.NDArray[np.void],
        *,
        within: Ranges | None = None,
        between: Callable[[], object] = lambda: None,
    ) -> Pages:
        """All PTE pages with their entries; see `Reader`."""
        walk = self._walk(target, within, between)
        parts = list(walk.pte_pages())
        if not target.alive():
            raise NoSuchTargetError(f"Process {target.pid} has ended.")
        huge = np.concatenate([_NONE, *walk.upper.huge])
        kinds = _huge_kinds(huge, vmas)
        guards = np.concatenate([_NONE, *(part.guards for part in parts)])
        return Pages(
            slots=np.concatenate([_NONE, *(part.slots for part in parts)]),
            present=np.concatenate([self._no_maps(), *(part.present for part in parts)]),
            huge=huge[kinds != 0],
            huge_kind=kinds[kinds != 0],
            exact=True,
            pmd_bases=walk.upper.pmds if within is None else None,
            pud_bases=walk.upper.puds if within is None else None,
            within=within,
            guards=_runs_in_slots(guards, self._geometry),
        )

    def _no_maps(self) -> npt.NDArray[np.uint64]:
        return np.empty((0, self._geometry.entries // 64), np.uint64)

    def census(self, target: Target) -> Census:
        """Count everything, again while the sum differs from VmPTE; see `Reader`."""
        for tries in range(1, _TRIES + 1):
            census = self._census(target)
            census.tries = tries
            if census.sum_kib == census.vm_pte_kib and not census.unstable:
                break
        return census

    def _census(self, target: Target) -> Census:
        census = Census(self._geometry, exact=True)
        before, begin = vm_pte_kib(target.pid), time.monotonic_ns()
        walk = self._walk(target)
        kinds = np.zeros(len(ENTRY_KINDS), np.int64)
        slots, entries = [_NONE], [np.empty(0, np.uint16)]
        present = [self._no_maps()]
        for pages in walk.pte_pages():
            refs = np.bitwise_count(pages.present).sum(axis=1)
            census.occupancy += np.bincount(refs, minlength=self._geometry.entries + 1)
            kinds += pages.kinds.sum(axis=0)
            slots.append(pages.slots)
            present.append(pages.present)
            entries.append(refs.astype(np.uint16))
        census.took_ns = time.monotonic_ns() - begin
        after = vm_pte_kib(target.pid)
        census.entries = Entries(*kinds.tolist())
        census.slots, census.refs = np.concatenate(slots), np.concatenate(entries)
        census.empty_slots = census.slots[census.refs == 0]
        census.pud_pages, census.pmd_pages = len(walk.upper.puds), len(walk.upper.pmds)
        census.huge_puds, census.unstable = walk.upper.huge_puds, walk.upper.unstable
        huge = np.concatenate([_NONE, *walk.upper.huge])
        huge_of = _huge_kinds(huge, target.vmas()) if len(huge) else np.empty(0, np.uint8)
        census.huge_anon = int(np.count_nonzero(huge_of == HUGE_ANON))
        census.huge_file = int(np.count_nonzero(huge_of == HUGE_FILE))
        census.tables = Tables(
            geometry=self._geometry,
            slots=census.slots,
            present=np.concatenate(present),
            leaves=huge,
            deposited=huge_of == HUGE_ANON,
            pmd_bases=np.sort(walk.upper.pmds),
            pud_bases=np.sort(walk.upper.puds),
        )
        census.vm_pte_kib = before if census.sum_kib == before else after
        return census

    def page_table_kib(self, targets: Collection[Target]) -> dict[int, int]:
        """VmPTE of many processes, from their address spaces; see `Reader`.

        Each figure is only a hint: if an address space was freed since, it is arbitrary.
        """
        spaces = {target.pid: self._known.get(target.pid) for target in targets}
        known = {pid: space for pid, space in spaces.items() if space}
        sizes = self._spaces.page_table_bytes(list(known.values()))
        found = zip(known, sizes, strict=True)
        return {pid: size // _KIB for pid, size in found if size is not None}

    def forget(self, target: Target) -> None:
        """Drop the address space of a process, which another may reuse; see `Reader`."""
        self._known.pop(target.pid, None)

    def close(self) -> None:
        """Unload the page reader."""
        self._memory.close()
