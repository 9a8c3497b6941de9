"""The compiled table against the specification, after every event of a random history."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.policy import Policy
from shadow.pte_ref.process import Process
from shadow.table import Counter, Table
from tests.shadow.build import BASE, PAGE, SLOT, History

_USUAL = 1000
_HISTORIES = int(os.environ.get("PTESCOPE_HISTORIES", _USUAL))
"""For each switching rule: the same ones each time, or more and others on demand."""
_SLOTS = 4
_EDGES = sorted(
    {
        slot * 512 + around
        for slot in range(_SLOTS + 1)
        for around in (-2, -1, 0, 1, 2, 255, 256, 257)
        if 0 <= slot * 512 + around <= _SLOTS * 512
    }
)
_RANGES = (
    st.lists(st.sampled_from(_EDGES), min_size=2, max_size=2, unique=True)
    .map(sorted)
    .map(lambda ends: (BASE + ends[0] * PAGE, (ends[1] - ends[0]) * PAGE))
)
_TOUCHED = st.tuples(st.sampled_from(_EDGES[:-1]), st.integers(1, 4)).map(
    lambda at: (BASE + at[0] * PAGE, at[1] * PAGE)
)
_ACTIONS = st.one_of(
    st.tuples(st.just("touch"), _TOUCHED),
    st.tuples(
        st.sampled_from(["touch", "dontneed", "dontneed", "free", "map", "unmap", "protect"]),
        _RANGES,
    ),
)


def _assert_same(table: Table, process: Process) -> None:
    pages = table.pages()
    bits = np.unpackbits(pages.present.view(np.uint8), axis=1, bitorder="little")
    rows, entries = np.nonzero(bits)
    assert (pages.slots[rows] // PAGE + entries).tolist() == sorted(process.entries)
    for policy in Policy:
        assert table.slots_of(policy).tolist() == sorted(process.tables(policy))
        assert table.counter(Counter.EMPTY + policy) == len(process.empty(policy))
        assert table.counter(Counter.FREED + policy) == process.freed[policy]
        assert table.counter(Counter.ATTEMPTS + policy) == process.attempts[policy]
    known = table.state.vmas[: table.counter(Counter.VMAS)]
    spans = zip((known["start"] // PAGE).tolist(), (known["end"] // PAGE).tolist(), strict=True)
    assert list(spans) == [(vma.start, vma.end) for vma in process.vmas.all]
    assert table.counter(Counter.SWITCHES) == process.grace_periods
    assert process.mm.nr_ptes == len(process.mm.pmds)


@pytest.mark.parametrize("switch_back", [False, True], ids=["as corrected", "as posted"])
@settings(max_examples=_HISTORIES, deadline=None, derandomize=_HISTORIES == _USUAL)
@given(st.lists(_ACTIONS, min_size=1, max_size=15))
def test_table_and_specification_agree_after_every_event(
    switch_back: bool, actions: list[tuple[str, tuple[int, int]]]
) -> None:
    table, process = Table(switch_back=switch_back), Process(switch_back=switch_back)
    for name, (start, length) in [("map", (BASE, _SLOTS * SLOT)), *actions]:
        table.feed(getattr(History(), name)(start, length).batch())
        getattr(process, name)(start, length)
        _assert_same(table, process)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(_ACTIONS, max_size=15), st.integers(1, 400))
def test_batches_do_not_matter(actions: list[tuple[str, tuple[int, int]]], size: int) -> None:
    history = History().map(BASE, _SLOTS * SLOT)
    for name, (start, length) in actions:
        getattr(history, name)(start, length)
    events = history.batch()
    once, parts = (Table(running=Policy.PT_RECLAIM) for _ in range(2))
    once.feed(events)
    for first in range(0, len(events), size):
        parts.feed(events[first : first + size])
    assert np.array_equal(once.state.counters, parts.state.counters)
    assert np.array_equal(once.state.area, parts.state.area)
    assert np.array_equal(once.empty_slots(), parts.empty_slots())
