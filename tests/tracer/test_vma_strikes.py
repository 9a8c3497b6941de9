# SPDX-License-Identifier: GPL-2.0-only
"""A VMA differs only if it still does in later readings."""

from tracer.follow.coverage import READINGS
from tracer.follow.vma_strikes import VmaStrikes

_ONE, _OTHER = (0x1000, 0x2000, 3), (0x4000, 0x6000, 3)


def test_equal_vmas_need_one_reading() -> None:
    strikes = VmaStrikes()
    strikes.add(set())
    assert strikes.settled


def test_a_difference_needs_several_readings() -> None:
    strikes = VmaStrikes()
    for _ in range(READINGS - 1):
        strikes.add({_ONE})
        assert not strikes.settled
    strikes.add({_ONE})
    assert strikes.settled


def test_a_late_event_takes_a_difference_back() -> None:
    strikes = VmaStrikes()
    strikes.add({_ONE})
    strikes.add(set())
    assert strikes.settled


def test_a_new_difference_begins_at_one() -> None:
    strikes = VmaStrikes()
    for _ in range(READINGS):
        strikes.add({_ONE})
    strikes.add({_ONE, _OTHER})
    assert not strikes.settled
