# SPDX-License-Identifier: GPL-2.0-only
"""How much of a process an audit has compared."""

import numpy as np

from tests.shadow.build import BASE, SLOT
from tracer.follow.coverage import READINGS, Coverage

_SLOTS = BASE + SLOT * np.arange(20)


def _mask(*numbers: int, of: int = 20) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    mask = np.zeros(of, np.bool_)
    mask[list(numbers)] = True
    return mask


def test_one_reading_of_an_idle_process_is_enough() -> None:
    coverage = Coverage()
    coverage.add(_SLOTS, ~_mask(), _mask(), _mask())
    assert (coverage.compared, coverage.not_compared) == (20, 0)
    assert coverage.suffices(1.0)


def test_changing_slots_are_compared_once_they_are_idle() -> None:
    coverage = Coverage()
    coverage.add(_SLOTS, ~_mask(), _mask(3, 4), _mask())
    assert (coverage.compared, coverage.not_compared) == (18, 2)
    assert coverage.open.tolist() == _SLOTS[[3, 4]].tolist()
    coverage.add(_SLOTS[3:5], ~_mask(of=2), _mask(1, of=2), _mask(of=2))
    assert (coverage.compared, coverage.not_compared) == (19, 1)


def test_a_slot_differs_once_it_did_in_every_reading() -> None:
    coverage = Coverage()
    for _ in range(READINGS - 1):
        assert not coverage.add(_SLOTS, ~_mask(), _mask(), _mask(7)).any()
        assert coverage.not_compared == 1
    assert coverage.add(_SLOTS, ~_mask(), _mask(), _mask(7)).tolist() == _mask(7).tolist()
    assert coverage.not_compared == 0


def test_a_temporary_difference_does_not_count() -> None:
    coverage = Coverage()
    coverage.add(_SLOTS, ~_mask(), _mask(), _mask(7))
    coverage.add(_SLOTS[7:8], ~_mask(of=1), _mask(of=1), _mask(of=1))
    assert coverage.compared == 20
    for _ in range(READINGS - 1):
        assert not coverage.add(_SLOTS[7:8], ~_mask(of=1), _mask(of=1), _mask(0, of=1)).any()


def test_huge_pages_are_compared_but_are_no_pte_pages() -> None:
    coverage = Coverage()
    coverage.add(_SLOTS, ~_mask(0, 1), _mask(0, 2), _mask())
    assert (coverage.compared, coverage.not_compared) == (17, 1)
    assert len(coverage.open) == 2


def test_a_process_without_pte_pages_is_compared() -> None:
    coverage = Coverage()
    coverage.add(_SLOTS[:0], _mask(of=0), _mask(of=0), _mask(of=0))
    assert coverage.suffices(1.0)


def test_enough_needs_its_share_and_some_readings() -> None:
    coverage = Coverage()
    for reading in range(1, READINGS + 1):
        coverage.add(_SLOTS, ~_mask(), _mask(5), _mask())
        assert coverage.suffices(0.95) == (reading == READINGS)
    assert not coverage.suffices(0.96)
