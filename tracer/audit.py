"""The shadow compared with the truth that needs no probes.

VmPTE gives the number of PTE pages, pagemap the entries that are not none; a
PTE page that the shadow calls empty must have no entry, and one with entries
must not be called empty. Where empty PTE pages are only a number, their
addresses cannot be checked.
"""

import numpy as np

from shadow.snapshot import Audit
from shadow.table import Counter, Table
from tracer.pagemap import Runs

__all__ = ("compare", "pages_by_vm_pte")

_KIB_PER_PAGE = 4


def pages_by_vm_pte(table: Table, vm_pte_kib: int) -> int:
    """PTE pages of the process: VmPTE less the upper levels and the deposits."""
    upper = sum(
        table.counter(which) for which in (Counter.PMD_PAGES, Counter.PUD_PAGES, Counter.DEPOSITS)
    )
    return vm_pte_kib // _KIB_PER_PAGE - upper


def compare(table: Table, runs: Runs, pte_pages: int, unplaced: int) -> Audit:
    """One comparison.

    Args:
        table: the shadow.
        runs: what pagemap shows.
        pte_pages: the real number of PTE pages.
        unplaced: PTE pages that the shadow counts without knowing where.
    """
    truth = Table(running=table.running)
    truth.seed_entries(runs.start, runs.end, runs.huge, 0)
    real, shadow = truth.entries(), table.entries()
    empty = {slot for slot, bits in shadow.items() if not bits.any()}
    used = {slot for slot, bits in shadow.items() if bits.any()}
    wrong = 0
    none = np.zeros(512, bool)
    for slot in real.keys() | used:
        wrong += int(np.count_nonzero(real.get(slot, none) != shadow.get(slot, none)))
    return Audit(
        runs=1,
        pte_pages_diff=pte_pages - table.counter(Counter.TABLES + table.running) - unplaced,
        empty_missing=len(used - real.keys()),
        empty_extra=len(empty & real.keys()),
        refs_diff=wrong,
        method="counted",
    )
