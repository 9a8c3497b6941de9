# SPDX-License-Identifier: GPL-2.0-only
"""The data that the helpers work on: PMD entries, PTE pages, and RCU.

An entry of a PTE page is none or holds a reference: a present page, a swap or migration
entry, or a marker. A PMD entry is none, a leaf, or refers to a PTE page. A freed page
stays here as an object marked as freed, so that the model detects its use.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from shadow.geometry import X86_64, Geometry
from shadow.pte_ref.errors import KernelBugError
from shadow.pte_ref.percpu_ref import PercpuRef

__all__ = ("LEAF", "Entry", "Leaf", "Mm", "Pmd", "PtePage", "Rcu")


class Entry(Enum):
    """An entry of a PTE page."""

    NONE = 0
    PRESENT = 1
    LAZYFREE = 2
    """Present and under MADV_FREE."""
    SWAP = 3
    MIGRATION = 4
    MARKER = 5


class Leaf:
    """A PMD entry that maps a huge page."""


LEAF = Leaf()


@dataclass(eq=False)
class PtePage:
    """A PTE page; `pte_ref` is None before pte_ref_init and after pte_ref_free."""

    entries: list[Entry] = field(default_factory=lambda: [Entry.NONE] * X86_64.entries)
    pte_ref: PercpuRef | None = None
    freed: bool = False

    @property
    def ref(self) -> PercpuRef:
        """The pte_ref of the page.

        Raises:
            KernelBugError: the page has none, because it was freed or never initialised.
        """
        if self.freed or self.pte_ref is None:
            raise KernelBugError("a PTE page is used after it was freed")
        return self.pte_ref


Pmd = PtePage | Leaf | None
"""A PMD entry: a PTE page, a huge page, or none."""


class Rcu:
    """RCU: callbacks wait until all readers that were active at their call have finished.

    A CPU with interrupts off is a reader too: x86 frees page tables with call_rcu, and a
    grace period also waits for such CPUs.
    """

    def __init__(self) -> None:
        self._readers: set[object] = set()
        self._waiting: list[tuple[set[object], Callable[[], None]]] = []

    def lock(self, reader: object) -> None:
        """rcu_read_lock, or local_irq_save."""
        self._readers.add(reader)

    def unlock(self, reader: object) -> None:
        """rcu_read_unlock, or local_irq_restore; runs callbacks that are ready."""
        self._readers.discard(reader)
        for readers, _ in self._waiting:
            readers.discard(reader)
        self._run()

    def call(self, callback: Callable[[], None]) -> None:
        """call_rcu: run `callback` when every current reader has finished."""
        self._waiting.append((set(self._readers), callback))
        self._run()

    def _run(self) -> None:
        ready = [callback for readers, callback in self._waiting if not readers]
        self._waiting = [(readers, callback) for readers, callback in self._waiting if readers]
        for callback in ready:
            callback()


@dataclass
class Mm:
    """The PTE pages of an address space.

    Attributes:
        pmds: PMD entries by the first address of their slot; absent: none.
        nr_ptes: number of accounted PTE pages (mm_inc_nr_ptes).
        rcu: the RCU state of the machine.
        freed: number of PTE pages that free_user_pte took out of the tree.
        flushes: slots whose translations free_user_pte flushed, in order.
        is_init_mm: whether this is the kernel's own address space, which has no pte_ref.
        geometry: the shape of the page tables.
    """

    pmds: dict[int, PtePage | Leaf] = field(default_factory=dict)
    nr_ptes: int = 0
    rcu: Rcu = field(default_factory=Rcu)
    freed: int = 0
    flushes: list[int] = field(default_factory=list)
    is_init_mm: bool = False
    geometry: Geometry = X86_64
