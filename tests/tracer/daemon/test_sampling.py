# SPDX-License-Identifier: GPL-2.0-only
"""Which processes are sampled, and the share of time that they are followed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.daemon.sampling import Sampling


def test_the_busiest_is_sampled_first() -> None:
    turns = Sampling()
    turns.save({1: 10.0, 2: 500.0, 3: 20.0}, now=0.0)
    assert (turns.samples(2), turns.count) == (True, 1)
    assert turns.due(0.0) == [2]
    assert turns.resting(2)
    turns.save({1: 10.0, 2: 0.0, 3: 20.0}, now=1.0)
    assert turns.samples(3)


def test_pauses_grow_above_the_cpu_limit_and_end_below_it() -> None:
    turns = Sampling()
    turns.save({1: 1.0}, now=0.0)
    assert turns.watched(1, found=-2.0, now=2.0) == pytest.approx(0.5)
    assert turns.due(2.0) == [1, 1]
    assert not turns.resting(1)
    turns.save({1: 1.0}, now=3.0)
    assert turns.due(4.0) == [1]
    assert turns.resting(1)
    assert turns.due(7.9) == []
    assert turns.due(8.0) == [1]
    turns.spend()
    turns.spend()
    assert turns.count == 0
    assert turns.watched(1, found=0.0, now=12.0) == pytest.approx(0.5)


def test_a_process_that_has_ended_is_not_sampled() -> None:
    turns = Sampling()
    turns.save({1: 1.0}, now=0.0)
    turns.forget(1)
    assert turns.due(100.0) == []


@given(st.lists(st.sampled_from(["save", "spend", "wait"]), max_size=60))
def test_the_watched_share_is_between_0_and_1(steps: list[str]) -> None:
    turns, now = Sampling(), 1.0
    for step in steps:
        now += 1.0
        if step == "save":
            turns.save({1: 5.0, 2: 1.0}, now)
        elif step == "spend":
            turns.spend()
        for pid in turns.due(now):
            assert pid in (1, 2)
        assert 0.0 <= turns.watched(1, 0.0, now) <= 1.0
