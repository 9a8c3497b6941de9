# SPDX-License-Identifier: GPL-2.0-only
"""The loop that follows: how long it waits between two passes."""

from tracer.follow.loop import Pace, follow


def test_a_pass_with_many_events_is_followed_by_the_next_at_once() -> None:
    passes = [100_000, 1, 0]
    waited: list[float] = []
    follow(
        lambda: passes.pop(0),
        lambda: not passes,
        pace=Pace(busy=0.25, idle=0.5),
        wait=waited.append,
    )
    assert waited == [0, 0.25, 0.5]
