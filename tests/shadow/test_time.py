# SPDX-License-Identifier: GPL-2.0-only
"""Mean and page-seconds cover the whole window, even with few events."""

from dataclasses import replace

import numpy as np
import pytest

from shadow.engine import Engine
from shadow.policy import Policy
from shadow.records import Events, Facts, Mappings, Repair, Seed
from shadow.snapshot import Kernel, PolicyOutcome, Process
from shadow.table.page_set import Pages
from shadow.table.state import HugePages
from shadow.table.vma import VMA, VmaFlag
from tests.shadow.build import BASE, SLOT, EventScript, pages_read

_S = 1_000_000_000
_SLOTS = 256
_WITHIN = np.array([BASE]), np.array([BASE + _SLOTS * SLOT])


def _vmas() -> np.ndarray[tuple[int], np.dtype[np.void]]:
    rows = [(BASE, BASE + _SLOTS * SLOT, VmaFlag.READ | VmaFlag.WRITE, 0, BASE >> 12, 1)]
    return np.array(rows, VMA)


def _followed(pages: Pages) -> Engine:
    """A process followed from second 100 of the clock on, with these PTE pages."""
    engine = Engine(
        Facts(
            process=Process(1, "x", 1, None, None),
            kernel=Kernel("6.18.0", "pt_reclaim", 4, 4096, "census"),
            huge=HugePages(),
            start_ns=100 * _S,
        )
    )
    engine.apply(Seed(100 * _S, pages, _vmas(), 0))
    return engine


def _touch_and_empty(engine: Engine, second: float) -> None:
    """Create all slots, and empty them in halves at once."""
    history = EventScript().touch(BASE, _SLOTS * SLOT, SLOT)
    for half in range(2 * _SLOTS):
        history.dontneed(BASE + half * SLOT // 2, SLOT // 2)
    batch = history.batch()
    batch["time"] = int(second * _S)
    engine.apply(Events(batch))


def _outcome(engine: Engine, second: float, policy: Policy = Policy.NONE) -> PolicyOutcome:
    return engine.snapshot(int(second * _S)).policies[policy.label]


def test_idle_time_after_the_last_event_counts() -> None:
    engine = _followed(pages_read(0, 0))
    _touch_and_empty(engine, 106)
    assert _outcome(engine, 124).mean == pytest.approx(_SLOTS * 18 / 24, abs=0.1)
    assert _outcome(engine, 124).saved_page_seconds == 0
    saved = _outcome(engine, 124, Policy.PTE_REF).saved_page_seconds
    assert saved == pytest.approx(_SLOTS * 18, abs=0.1)


def test_a_process_without_any_event_has_the_mean_of_its_seed() -> None:
    engine = _followed(pages_read(10, 0))
    assert _outcome(engine, 160).mean == 10
    assert _outcome(engine, 160, Policy.PTE_REF).mean == 0
    assert _outcome(engine, 160, Policy.PTE_REF).saved_page_seconds == 600


def test_the_window_ends_where_the_facts_say() -> None:
    engine = _followed(pages_read(10, 0))
    engine.update(130 * _S, end_ns=130 * _S)
    assert _outcome(engine, 160, Policy.PTE_REF).saved_page_seconds == 300


def test_what_a_reading_repairs_counts_from_its_own_time() -> None:
    engine = _followed(pages_read(0, 0))
    engine.apply(Repair(110 * _S, pages_read(_SLOTS, 1).restricted(_WITHIN)))
    assert _outcome(engine, 120).mean == pytest.approx(_SLOTS / 2, abs=0.1)
    gone = replace(pages_read(0, 0), within=_WITHIN)
    engine.apply(Repair(120 * _S, gone))
    assert _outcome(engine, 140, Policy.PT_RECLAIM).mean == pytest.approx(_SLOTS / 4, abs=0.1)


def test_frequent_snapshots_change_nothing() -> None:
    watched, left_alone = _followed(pages_read(3, 1)), _followed(pages_read(3, 1))
    for tenth in range(1000, 1237, 7):
        watched.snapshot(tenth * _S // 10)
    for engine in (watched, left_alone):
        _touch_and_empty(engine, 131.7)
    assert watched.snapshot(150 * _S) == left_alone.snapshot(150 * _S)


def test_idle_time_while_not_sampled_is_not_observed() -> None:
    """Like a sampling daemon: followed for 10 s, not followed for 30 s, followed for 10 s."""
    engine = _followed(pages_read(10, 0))
    engine.apply(Mappings(110 * _S))
    engine.apply(Seed(140 * _S, pages_read(20, 0), _vmas(), 0))
    assert _outcome(engine, 150).mean == 15
    assert _outcome(engine, 150, Policy.PTE_REF).saved_page_seconds == 300
