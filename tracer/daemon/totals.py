# SPDX-License-Identifier: GPL-2.0-only
"""Costs and counts of the daemon, including processes that it no longer follows."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from shadow.host_view import Cost
from shadow.table.counters import Counter
from tracer.daemon.limits import memory_bytes
from tracer.follow.session import Session
from tracer.probes.ring import Ring

__all__ = ("Totals",)


@dataclass
class Totals:
    """Sums since the start of the daemon.

    Attributes:
        gone_events: events of processes that are no longer followed.
        gone_lost: lost events of these processes.
        uncounted_forks: forked processes that ended before /proc could be read.
        failures: internal errors of ptescope.
    """

    gone_events: int = 0
    gone_lost: int = 0
    uncounted_forks: int = 0
    failures: int = 0

    def add_gone(self, session: Session) -> None:
        """Add the counts of a session that ends."""
        self.gone_events += session.events
        self.gone_lost += session.table.counter(Counter.LOST)

    def cost(self, sessions: Sequence[Session], ring: Ring, *, sees_events: bool) -> Cost:
        """The costs and counts until now.

        Args:
            sessions: sessions of the processes that are followed now.
            ring: the ring buffer.
            sees_events: whether the self-test event was seen recently.
        """
        tables = [session.table for session in sessions]
        return Cost(
            cpu_seconds=time.process_time(),
            memory_bytes=memory_bytes(),
            shadow_bytes=sum(table.nbytes() for table in tables),
            events=self.gone_events + sum(session.events for session in sessions),
            lost=self.gone_lost + sum(table.counter(Counter.LOST) for table in tables),
            ring_bytes=ring.size,
            ring_used_bytes=ring.backlog(),
            uncounted_forks=self.uncounted_forks,
            newest_event_ns=max((table.counter(Counter.NOW) for table in tables), default=0),
            sees_events=sees_events,
            failures=self.failures,
        )
