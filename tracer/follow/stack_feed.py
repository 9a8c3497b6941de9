# SPDX-License-Identifier: GPL-2.0-only
"""Hands the stacks of one process from the unwinder to the engine, a few times a second."""

import time
from typing import TYPE_CHECKING

from shadow.engine import Engine

if TYPE_CHECKING:
    from tracer.stacks.sampler import StackSampler

__all__ = ("StackFeed",)

_EVERY_NS = 500_000_000
"""A record has a fixed cost in a trace, so it takes the stacks of half a second."""


class StackFeed:
    """The stacks of one process.

    Args:
        sampler: the stacks of all processes; None: nobody requested stacks.
        engine: receives the records.
    """

    def __init__(self, sampler: "StackSampler | None", engine: Engine) -> None:
        self._sampler, self._engine = sampler, engine
        self._pid = engine.facts.process.pid
        self._next = 0
        if sampler is not None:
            sampler.follow(self._pid)

    def poll(self) -> None:
        """Apply what has come, if it is time."""
        if self._sampler is not None:
            self._sampler.poll()
            if time.monotonic_ns() >= self._next:
                self._apply(self._sampler)

    def finish(self) -> None:
        """Wait for the stacks of all events so far, and apply them."""
        if self._sampler is not None:
            self._sampler.flush()
            self._apply(self._sampler)
            self._sampler.forget(self._pid)

    def _apply(self, sampler: "StackSampler") -> None:
        now = time.monotonic_ns()
        self._next = now + _EVERY_NS
        record = sampler.take(self._pid, now)
        if record is not None:
            self._engine.apply(record)
