# SPDX-License-Identifier: GPL-2.0-only
"""Each of the ten helpers does what the RFC says."""

import pytest

from shadow.pte_ref import (
    LEAF,
    Entry,
    KernelBugError,
    Mm,
    Mode,
    PtePage,
    alone,
    free_user_pte,
    pte_put,
    pte_ref_free,
    pte_ref_init,
    pte_tryget,
    pte_tryget_map,
    pte_tryget_map_lock,
    track_pte_clear,
    track_pte_set,
    try_to_free_user_pte,
)
from tests.x86_64 import ENTRIES

_SLOT = 0


def _mm(entries: int = 0) -> tuple[Mm, PtePage]:
    """A process with one PTE page, its first entries present."""
    mm, page = Mm(), PtePage()
    assert pte_ref_init(page)
    mm.pmds[_SLOT], mm.nr_ptes = page, 1
    for index in range(entries):
        _set(mm, page, index)
    return mm, page


def _set(mm: Mm, page: PtePage, index: int, entry: Entry = Entry.PRESENT) -> None:
    held = alone(pte_tryget_map_lock(mm, _SLOT))
    assert held is page
    track_pte_set(mm, page, index, entry)
    pte_put(page)


def _zap(mm: Mm, page: PtePage, first: int, last: int) -> None:
    held = alone(pte_tryget_map_lock(mm, _SLOT))
    assert held is page
    for index in range(first, last):
        track_pte_clear(mm, page, index)
    pte_put(page)


def test_init_gives_a_count_that_nobody_holds_and_nobody_can_read() -> None:
    _, page = _mm()
    assert page.ref.mode is Mode.PERCPU
    assert page.ref.true_count() == 0
    assert not page.ref.is_zero()
    assert page.ref.tryget()  # in percpu mode, even at zero


def test_free_takes_the_count_away() -> None:
    _, page = _mm()
    pte_ref_free(page)
    with pytest.raises(KernelBugError):
        page.ref.get()


def test_entries_and_visitors_hold_references() -> None:
    mm, page = _mm(3)
    assert page.ref.true_count() == 3
    held = alone(pte_tryget(mm, _SLOT))
    assert held is page
    assert page.ref.true_count() == 4
    pte_put(page)
    assert page.ref.true_count() == 3


@pytest.mark.parametrize("entry", [Entry.SWAP, Entry.MIGRATION, Entry.MARKER, Entry.LAZYFREE])
def test_each_entry_that_is_not_none_holds_one_reference(entry: Entry) -> None:
    mm, page = _mm(1)
    _set(mm, page, 0, entry)
    _set(mm, page, 1, entry)
    assert page.ref.true_count() == 2
    _zap(mm, page, 0, ENTRIES)
    assert page.ref.true_count() == 0


def test_tryget_fails_without_a_pte_page() -> None:
    mm = Mm()
    assert alone(pte_tryget_map(mm, _SLOT)) is None
    mm.pmds[_SLOT] = LEAF
    assert alone(pte_tryget_map_lock(mm, _SLOT)) is None


def test_a_tryget_that_sees_zero_frees() -> None:
    mm, page = _mm()
    page.ref.switch_to_atomic_sync()
    assert alone(pte_tryget(mm, _SLOT)) is None
    assert mm.pmds == {}
    assert page.freed


def test_free_user_pte_clears_flushes_and_accounts() -> None:
    mm, page = _mm()
    alone(free_user_pte(mm, _SLOT))
    assert (mm.pmds, mm.nr_ptes, mm.flushes, page.freed) == ({}, 0, [_SLOT], True)
    alone(free_user_pte(mm, _SLOT))  # nothing there: nothing to do
    mm.pmds[_SLOT] = LEAF
    alone(free_user_pte(mm, _SLOT))
    assert mm.pmds == {_SLOT: LEAF}


def test_a_freed_pte_page_lives_until_its_rcu_readers_are_gone() -> None:
    mm, page = _mm()
    mm.rcu.lock("early")
    alone(free_user_pte(mm, _SLOT))
    mm.rcu.lock("late")
    assert not page.freed
    mm.rcu.unlock("early")
    assert page.freed


def test_an_attempt_at_zero_frees_at_once() -> None:
    mm, page = _mm(2)
    _zap(mm, page, 0, 2)
    assert alone(try_to_free_user_pte(mm, _SLOT, switch_back=True))
    assert page.freed
    assert mm.freed == 1


@pytest.mark.parametrize(("switch_back", "after"), [(True, Mode.PERCPU), (False, Mode.ATOMIC)])
def test_a_failed_attempt_goes_back_as_posted_and_stays_as_corrected(
    switch_back: bool, after: Mode
) -> None:
    mm, page = _mm(2)
    assert not alone(try_to_free_user_pte(mm, _SLOT, switch_back=switch_back))
    assert page.ref.mode is after
    assert page.ref.true_count() == 2
    assert not page.freed


def test_each_switch_to_atomic_waits_for_a_grace_period_once() -> None:
    """The reason for the correction: as posted, every failed attempt waits again."""
    for switch_back, waits in ((True, 3), (False, 1)):
        mm, page = _mm(1)
        for _ in range(3):
            alone(try_to_free_user_pte(mm, _SLOT, switch_back=switch_back))
        assert page.ref.grace_periods == waits


def test_in_atomic_mode_the_next_visitor_frees_an_unused_pte_page() -> None:
    """The MADV_FREE case: put never frees; a tryget that fails does."""
    mm, page = _mm(1)
    alone(try_to_free_user_pte(mm, _SLOT, switch_back=False))
    _zap(mm, page, 0, 1)
    assert not page.freed
    assert alone(pte_tryget_map(mm, _SLOT)) is None
    assert page.freed


def test_the_kernels_own_page_tables_are_left_alone() -> None:
    mm, page = Mm(is_init_mm=True), PtePage()
    mm.pmds[_SLOT] = page
    track_pte_set(mm, page, 0, Entry.PRESENT)
    track_pte_clear(mm, page, 0)
    assert not alone(try_to_free_user_pte(mm, _SLOT, switch_back=False))
    assert mm.pmds == {_SLOT: page}


def test_entries_change_only_in_a_pte_page_that_is_held() -> None:
    mm, page = _mm()
    page.ref.switch_to_atomic_sync()
    with pytest.raises(KernelBugError):
        track_pte_set(mm, page, 0, Entry.PRESENT)
    with pytest.raises(KernelBugError):
        track_pte_clear(mm, page, 0)


def test_an_unbalanced_put_is_an_error() -> None:
    _, page = _mm()
    page.ref.switch_to_atomic_sync()
    with pytest.raises(KernelBugError):
        pte_put(page)
