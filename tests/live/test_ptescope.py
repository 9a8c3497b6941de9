# SPDX-License-Identifier: GPL-2.0-only
"""The public API on a live process."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pytest

import ptescope
from tests.examples import run_examples
from tests.live.actor import SLOT, Actor

_BASE = 0x20_0000_0000
_EMPTY = 16
_DONTNEED = 4


@pytest.fixture
def emptied() -> Iterator[Actor]:
    """A process with 16 empty PTE pages: each slot is discarded in two halves."""
    actor = Actor()
    try:
        actor.map(_BASE, _EMPTY * SLOT)
        actor.touch(_BASE, _EMPTY * SLOT, 4096 * 64)
        for half in range(2 * _EMPTY):
            actor.advise(_BASE + half * SLOT // 2, SLOT // 2, _DONTNEED)
        yield actor
    finally:
        actor.close()


def test_examples_that_read_live_processes_run(emptied: Actor) -> None:
    assert run_examples(ptescope, {"census", "attach"}, pid=emptied.pid, pc=pc) == 7


def test_three_lines_give_the_table_of_pte_pages(emptied: Actor) -> None:
    table = ptescope.census(emptied.pid).to_arrow()
    ours = table.filter(pc.field("slot") >= _BASE).filter(pc.field("slot") < _BASE + _EMPTY * SLOT)
    assert ours["slot"].to_pylist() == [_BASE + n * SLOT for n in range(_EMPTY)]
    assert ours["empty"].to_pylist() == [True] * _EMPTY
    assert ours["mapped"].to_pylist() == ["anonymous"] * _EMPTY
    assert table["lazyfree"].null_count == table.num_rows


def test_a_followed_process_has_a_snapshot_at_any_time(emptied: Actor, tmp_path: Path) -> None:
    trace = tmp_path / "t.arrows"
    with ptescope.attach(emptied.pid, trace=trace) as live:
        emptied.touch(_BASE, 4 * SLOT, SLOT)
        assert not live.wait(0.3)
        before = live.snapshot()
        live.audit()
        emptied.advise(_BASE, 4 * SLOT, _DONTNEED)
    after = live.snapshot()
    assert before.now.empty == after.now.empty == _EMPTY - 4
    assert before.now.pte_pages == after.now.pte_pages + 4
    assert (after.audit.empty_missing, after.audit.empty_extra) == (0, 0)
    assert after.to_arrow().num_rows == after.now.pte_pages
    (replayed,) = ptescope.replay(trace)
    assert replayed.as_json() == after.as_json()
    assert [advice.snapshot.now.empty for advice in ptescope.advise(trace)] == [after.now.empty]


def test_wait_returns_when_the_process_ends(emptied: Actor) -> None:
    with ptescope.attach(emptied.pid) as live:
        os.kill(emptied.pid, signal.SIGKILL)
        assert live.wait(10)
    assert live.ended
    assert live.snapshot().process.pid == emptied.pid


def test_advice_on_a_live_process(emptied: Actor) -> None:
    (advice,) = ptescope.advise(emptied.pid, duration=0.3)
    assert advice.snapshot.process.pid == emptied.pid
    assert [finding.rule for finding in advice.findings][:1] == ["little_to_save"]


def test_a_missing_process_is_an_error(tmp_path: Path) -> None:
    for call in (ptescope.census, ptescope.advise):
        with pytest.raises(ptescope.NoSuchTargetError):
            call(4194305)
    trace = tmp_path / "t.arrows"
    with pytest.raises(ptescope.NoSuchTargetError), ptescope.attach(4194305, trace=trace):
        pass
    assert not trace.exists()
