# SPDX-License-Identifier: GPL-2.0-only
"""Takes a snapshot of a shadow page table, as plain data."""

from shadow.events import count_kinds
from shadow.policy import POLICIES, Policy
from shadow.records import Facts
from shadow.snapshot import Now, PolicyOutcome, Snapshot, Window
from shadow.table.counters import Counter
from shadow.table.table import Table
from shadow.units import NS

__all__ = ("take_snapshot",)

_KINDS = 32


def _outcome(table: Table, policy: int, end_ns: int) -> PolicyOutcome:
    page_ns = table.page_ns(end_ns)
    observed = float(page_ns[-1])
    pages = table.counter(Counter.TABLES + policy)
    return PolicyOutcome(
        pte_pages=pages,
        empty=table.counter(Counter.EMPTY + policy),
        freed=table.counter(Counter.FREED + policy),
        reallocated=table.counter(Counter.REALLOCATED + policy),
        attempts=table.counter(Counter.ATTEMPTS + policy),
        mode_switches=table.counter(Counter.SWITCHES) if policy == Policy.PTE_REF else 0,
        peak=table.counter(Counter.PEAK + policy),
        mean=round(float(page_ns[policy]) / observed, 1) if observed else float(pages),
        saved_page_seconds=round(float(page_ns[Policy.NONE] - page_ns[policy]) / NS, 1),
        inferred=table.counter(Counter.INFERRED + policy),
    )


def _now(table: Table, policy: Policy, unplaced: int, vm_pte_kib: int | None) -> Now:
    occupancy = table.occupancy(policy)
    placed = table.counter(Counter.TABLES + policy)
    pmd, pud = table.counter(Counter.PMD_PAGES), table.counter(Counter.PUD_PAGES)
    deposits = table.counter(Counter.DEPOSITS)
    return Now(
        pte_pages=placed + unplaced,
        empty=table.counter(Counter.EMPTY + policy) + unplaced,
        unplaced=unplaced,
        lazyfree_only=table.lazyfree_only(policy),
        sparse=int(occupancy[1 : table.geometry.sparse_below].sum()),
        refs=table.counter(Counter.REFS),
        pmd_pages=pmd,
        pud_pages=pud,
        thp_deposits=deposits,
        vm_pte_kib=vm_pte_kib,
        vm_pte_predicted_kib=(placed + unplaced + pmd + pud + deposits) * table.geometry.page >> 10,
        occupancy=[int(n) + (unplaced if i == 0 else 0) for i, n in enumerate(occupancy)],
    )


def _window(table: Table, start_ns: int, end_ns: int) -> Window:
    counts = table.state.counters[Counter.EVENTS : Counter.EVENTS + _KINDS]
    return Window(start_ns, end_ns, events=count_kinds(counts), lost=table.counter(Counter.LOST))


def take_snapshot(
    table: Table,
    facts: Facts,
    now_ns: int,
    *,
    slots: bool = False,
    policy: Policy | None = None,
) -> Snapshot:
    """The state at `now_ns`, or at the end of the window if the window ended before.

    Args:
        table: the shadow page table.
        facts: everything else about the process.
        now_ns: CLOCK_MONOTONIC.
        slots: whether to list the addresses of empty slots.
        policy: show the PTE pages under this policy; None: under that of the running kernel.
    """
    end_ns = now_ns if facts.end_ns is None else min(facts.end_ns, now_ns)
    vm_pte_kib = None if facts.ended else facts.vm_pte_kib
    notes, unplaced = list(facts.notes), facts.unplaced
    shown = table.running if policy is None else policy
    if shown != table.running:
        notes.append(
            f"This report shows the PTE pages under {shown.label}; the process ran under "
            f"{table.running.label}."
        )
        vm_pte_kib = None
        if shown == Policy.PTE_REF:  # pte_ref would have freed them before the window
            unplaced = 0
    return Snapshot(
        process=facts.process,
        kernel=facts.kernel,
        window=_window(table, facts.start_ns, end_ns),
        now=_now(table, shown, unplaced, vm_pte_kib),
        policies={each.label: _outcome(table, each, end_ns) for each in POLICIES},
        audit=facts.audit,
        notes=notes,
        empty_slots=table.empty_slots(shown).tolist() if slots else None,
    )
