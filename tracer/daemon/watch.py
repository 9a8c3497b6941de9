# SPDX-License-Identifier: GPL-2.0-only
"""The loop that watches a host, for `daemon` and `top`."""

from collections.abc import Callable, Sequence

from tracer.daemon.host import Host
from tracer.daemon.view_broker import ViewBroker
from tracer.follow.loop import Pace, Task, follow

__all__ = ("follow_host",)

_PACE = Pace(busy=0.05, idle=0.2)


def follow_host(
    host: Host,
    broker: ViewBroker,
    over: Callable[[], bool],
    *,
    duration: float | None = None,
    tasks: Sequence[Task] = (),
) -> None:
    """Watch the host and answer requests for its view until it is over.

    Args:
        host: the host.
        broker: hands views to other threads.
        over: returns true to stop.
        duration: seconds after which to stop; None: never.
        tasks: what to do at intervals.
    """

    def step() -> int:
        busy = host.step()
        broker.answer()
        return busy

    follow(step, over, duration=duration, tasks=tasks, pace=_PACE, wait=broker.wait)
