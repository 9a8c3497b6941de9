# SPDX-License-Identifier: GPL-2.0-only
"""The compiled table equals the specification after every event of a random history."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.geometry import MODELLED, X86_64, Geometry
from shadow.policy import Policy
from shadow.pte_ref.process import SpecifiedProcess
from shadow.table.table import Table
from tests.shadow.histories import Action, Both, actions

_USUAL = 500
_HISTORIES = int(os.environ.get("PTESCOPE_HISTORIES", _USUAL))
"""Histories per kernel on x86-64: fixed by default, more and different on demand."""
_OF_OTHERS = 4
"""The part of them for other geometries, which have the same rules. Where tables have more entries,
a history takes longer, and there are fewer."""
_PROCESSES = 3


@pytest.mark.parametrize("geometry", MODELLED, ids=lambda each: each.name)
@pytest.mark.parametrize(
    ("running", "switch_back"),
    [(Policy.NONE, False), (Policy.PT_RECLAIM, True), (Policy.DONTNEED_ZERO, False)],
    ids=["none, as corrected", "pt_reclaim, as posted", "dontneed_zero"],
)
def test_table_and_specification_agree_after_every_event(
    running: Policy, switch_back: bool, geometry: Geometry
) -> None:
    short, long = (st.lists(actions(geometry), min_size=least, max_size=20) for least in (1, 10))
    number = _HISTORIES * X86_64.entries // geometry.entries
    if geometry != X86_64:
        number = max(number // _OF_OTHERS, 1)

    @settings(max_examples=number, deadline=None, derandomize=_HISTORIES == _USUAL)
    @given(short | long)
    def agree(history: list[Action]) -> None:
        _agree(history, geometry, running, switch_back=switch_back)

    agree()


def _agree(
    history: list[Action], geometry: Geometry, running: Policy, *, switch_back: bool
) -> None:
    table = Table(geometry=geometry, running=running, switch_back=switch_back)
    specified = SpecifiedProcess(geometry=geometry, switch_back=switch_back)
    processes = [Both(table, specified)]
    processes[0].begin()
    for action in history:
        who = processes[action.who % len(processes)]
        child = who.do(action)
        who.assert_same()
        if child:
            child.assert_same()
            processes = [*processes[: _PROCESSES - 1], child]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(actions(X86_64), max_size=15), st.integers(1, 400))
def test_the_result_does_not_depend_on_batch_boundaries(history: list[Action], size: int) -> None:
    whole = Both(Table(running=Policy.PT_RECLAIM), SpecifiedProcess())
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
