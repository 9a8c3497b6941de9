# SPDX-License-Identifier: GPL-2.0-only
"""The compiled table equals the specification after every event of a random history."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.policy import Policy
from shadow.pte_ref.process import SpecifiedProcess
from shadow.table.table import Table
from tests.shadow.histories import Action, Both, actions

_USUAL = 500
_HISTORIES = int(os.environ.get("PTESCOPE_HISTORIES", _USUAL))
"""Histories per kernel and number of levels: fixed by default, more and different on demand."""
_PROCESSES = 3


@pytest.mark.parametrize("levels", [4, 5])
@pytest.mark.parametrize(
    ("running", "switch_back"),
    [(Policy.NONE, False), (Policy.PT_RECLAIM, True), (Policy.DONTNEED_ZERO, False)],
    ids=["none, as corrected", "pt_reclaim, as posted", "dontneed_zero"],
)
@settings(max_examples=_HISTORIES, deadline=None, derandomize=_HISTORIES == _USUAL)
@given(data=st.data())
def test_table_and_specification_agree_after_every_event(
    running: Policy, switch_back: bool, levels: int, data: st.DataObject
) -> None:
    short, long = (st.lists(actions(levels), min_size=least, max_size=20) for least in (1, 10))
    history = data.draw(short | long)
    table = Table(levels=levels, running=running, switch_back=switch_back)
    processes = [Both(table, SpecifiedProcess(levels=levels, switch_back=switch_back), levels)]
    processes[0].begin()
    for action in history:
        who = processes[action.who % len(processes)]
        child = who.do(action)
        who.assert_same()
        if child:
            child.assert_same()
            processes = [*processes[: _PROCESSES - 1], child]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(actions(4), max_size=15), st.integers(1, 400))
def test_the_result_does_not_depend_on_batch_boundaries(history: list[Action], size: int) -> None:
    whole = Both(Table(running=Policy.PT_RECLAIM), SpecifiedProcess(), 4)
    whole.begin()
    for action in history:
        if action.name != "fork":
            whole.do(action)
    events = np.concatenate(whole.applied)
    once, parts = (Table(running=Policy.PT_RECLAIM) for _ in range(2))
    once.feed(events)
    for first in range(0, len(events), size):
        parts.feed(events[first : first + size])
    assert np.array_equal(once.state.counters, parts.state.counters)
    assert np.array_equal(once.state.area, parts.state.area)
    assert np.array_equal(once.empty_slots(), parts.empty_slots())
