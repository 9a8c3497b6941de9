# SPDX-License-Identifier: GPL-2.0-only
"""The races of the RFC's text, in every order."""

import pytest

from shadow.pte_ref.errors import KernelBugError
from shadow.pte_ref.interleave import Thread, Wait, explore
from shadow.pte_ref.look_races import LOOK_RACES
from shadow.pte_ref.races import RACES, Race, outcome


@pytest.mark.parametrize("race", RACES + LOOK_RACES, ids=lambda race: race.name)
def test_orders_break_exactly_where_the_text_says(race: Race) -> None:
    orders, broken = outcome(race)
    assert orders > 1
    assert (broken is not None) == race.breaks, str(broken)


def test_the_break_is_drawn_with_a_column_for_each_thread() -> None:
    (race,) = (race for race in RACES if "freed at once" in race.name)
    _, broken = outcome(race)
    lines = str(broken).splitlines()
    assert lines[0].split("  ")[0] == "A fast GUP"
    assert "B MADV_DONTNEED" in lines[0]
    assert lines[-1] == "broken: fast GUP reads a PTE page that was freed"


def _count(log: list[str], name: str, steps: int) -> Thread:
    for step in range(steps):
        yield f"{step}"
        log.append(name)


def test_every_order_is_run_once() -> None:
    """Two threads of 2 and 3 steps: 5! / (2! 3!) orders."""
    logs: list[list[str]] = []

    def world() -> dict[str, Thread]:
        logs.append([])
        return {"a": _count(logs[-1], "a", 2), "b": _count(logs[-1], "b", 3)}

    assert list(explore(world)) == [None] * 10
    assert len({tuple(log) for log in logs}) == 10
    assert all(sorted(log) == list("aabbb") for log in logs)


def test_a_lock_that_is_never_released_is_a_deadlock() -> None:
    def stuck() -> Thread:
        yield Wait("lock", lambda: False)

    (broken,) = explore(lambda: {"a": stuck()})
    assert broken is not None
    assert broken.why == "deadlock"


def test_a_break_in_one_order_of_many_is_found() -> None:
    def world() -> dict[str, Thread]:
        seen: list[str] = []

        def checks() -> Thread:
            yield "look"
            if seen == ["first", "second"]:
                raise KernelBugError("both")

        def writes() -> Thread:
            yield "first"
            seen.append("first")
            yield "second"
            seen.append("second")

        return {"a": checks(), "b": writes()}

    broken = [order for order in explore(world) if order]
    assert len(broken) == 1
    assert [step for _, step in broken[0].steps] == ["first", "second", "look"]
