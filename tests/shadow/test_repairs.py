# SPDX-License-Identifier: GPL-2.0-only
"""A repair leaves every policy in a state that its rule allows, and reports its conclusions."""

from dataclasses import replace

import numpy as np
import pytest

from shadow.policy import Policy
from shadow.table.counters import Counter
from shadow.table.page_set import Pages
from shadow.table.table import Table
from shadow.table.vma import VMA, VmaFlag
from tests.shadow.build import BASE, SLOT, EventScript, pages_read

_SLOTS = 256
_EVERYWHERE = np.array([BASE]), np.array([BASE + _SLOTS * SLOT])
_NOW = 10**9


def _table(running: Policy = Policy.PT_RECLAIM) -> Table:
    """All slots mapped, with 8 entries each."""
    table = Table(running=running)
    history = EventScript().map(BASE, _SLOTS * SLOT).touch(BASE, _SLOTS * SLOT, SLOT // 8)
    table.feed(history.batch())
    return table


def _read(slots: int, entries: int, *, exact: bool = True) -> Pages:
    """A reading of everything: the first `slots` have a PTE page with this many entries."""
    return replace(pages_read(slots, entries, exact=exact), within=_EVERYWHERE)


def _by_policy(table: Table, counter: Counter) -> list[int]:
    return [table.counter(counter + policy) for policy in Policy]


def test_entries_found_gone_are_an_attempt() -> None:
    """After ftruncate by another process, PTE pages stay under pt_reclaim and are empty."""
    table = _table()
    table.adopt(_read(_SLOTS, 0), _NOW)
    assert _by_policy(table, Counter.TABLES) == [_SLOTS, _SLOTS, _SLOTS, 0]
    assert _by_policy(table, Counter.EMPTY) == [_SLOTS, _SLOTS, _SLOTS, 0]
    assert _by_policy(table, Counter.FREED) == [0, 0, 0, _SLOTS]
    assert _by_policy(table, Counter.INFERRED) == [0, 0, 0, _SLOTS]
    assert _by_policy(table, Counter.ATTEMPTS) == [0, 0, 0, _SLOTS]


def test_some_entries_gone_are_an_attempt_that_frees_nothing() -> None:
    table = _table()
    table.adopt(_read(_SLOTS, 1), _NOW)
    assert _by_policy(table, Counter.FREED) == [0, 0, 0, 0]
    assert _by_policy(table, Counter.ATTEMPTS) == [0, 0, 0, _SLOTS]
    assert _by_policy(table, Counter.EMPTY) == [0, 0, 0, 0]


def test_pte_pages_found_gone_were_freed_by_the_running_rule() -> None:
    table = _table()
    table.adopt(_read(0, 0), _NOW)
    assert _by_policy(table, Counter.TABLES) == [_SLOTS, 0, 0, 0]
    assert _by_policy(table, Counter.FREED) == [0, _SLOTS, _SLOTS, _SLOTS]
    assert _by_policy(table, Counter.INFERRED) == [0, _SLOTS, _SLOTS, _SLOTS]


def test_pte_pages_gone_with_their_mapping_are_gone_under_every_policy() -> None:
    """After a munmap without an event; the mappings may be read before or after."""
    for mappings_first in (True, False):
        table = _table()
        elsewhere = np.array([(1 << 32, 2 << 32, VmaFlag.READ, 0, 0, 0)], VMA)
        if mappings_first:
            table.seed_vmas(elsewhere, 0)
        table.adopt(_read(0, 0), _NOW)
        table.seed_vmas(elsewhere, 0)
        assert _by_policy(table, Counter.TABLES) == [0, 0, 0, 0]


def test_an_empty_pte_page_beside_a_mapping_stays() -> None:
    """free_pgtables keeps a PTE page while a neighbour shares its slot."""
    table = Table(running=Policy.PT_RECLAIM)
    history = EventScript().map(BASE, SLOT).touch(BASE, SLOT // 2).dontneed(BASE, SLOT)
    table.feed(history.batch())
    beside = np.array([(BASE + SLOT - 4096, BASE + SLOT, VmaFlag.READ, 0, 0, 0)], VMA)
    table.seed_vmas(beside, 0)
    assert _by_policy(table, Counter.TABLES) == [1, 0, 0, 0]


def test_an_empty_pte_page_that_came_and_was_emptied_unseen() -> None:
    table = Table(running=Policy.PT_RECLAIM)
    table.feed(EventScript().map(BASE, _SLOTS * SLOT).batch())
    table.adopt(_read(_SLOTS, 0), _NOW)
    assert _by_policy(table, Counter.TABLES) == [_SLOTS, _SLOTS, _SLOTS, 0]
    assert _by_policy(table, Counter.INFERRED) == [0, 0, 0, _SLOTS]


def test_a_seed_concludes_nothing() -> None:
    table = Table(running=Policy.PT_RECLAIM)
    table.seed(_read(_SLOTS, 0), _NOW)
    assert _by_policy(table, Counter.TABLES) == [_SLOTS, _SLOTS, _SLOTS, 0]
    assert _by_policy(table, Counter.INFERRED) == [0, 0, 0, 0]


def test_a_counted_reading_says_nothing_about_pt_reclaim() -> None:
    table = _table()
    table.adopt(_read(0, 0, exact=False), _NOW)
    assert _by_policy(table, Counter.TABLES) == [_SLOTS, _SLOTS, _SLOTS, 0]
    assert _by_policy(table, Counter.FREED) == [0, 0, 0, _SLOTS]


@pytest.mark.parametrize("running", [Policy.NONE, Policy.PT_RECLAIM, Policy.DONTNEED_ZERO])
@pytest.mark.parametrize("entries", [0, 1, 512])
@pytest.mark.parametrize("slots", [0, _SLOTS // 2, _SLOTS])
def test_policies_keep_their_order(running: Policy, slots: int, entries: int) -> None:
    """Whatever a reading says, no policy has more PTE pages than one that frees less."""
    table = _table(running)
    table.adopt(_read(slots, entries), _NOW)
    pages = _by_policy(table, Counter.TABLES)
    assert pages == sorted(pages, reverse=True)
    assert pages[running] == slots
    assert table.counter(Counter.EMPTY + Policy.PTE_REF) == 0
