# SPDX-License-Identifier: GPL-2.0-only
"""Explores every order in which threads can run, step by step.

A thread is a generator that yields before each step; between two yields it runs alone.
`explore` builds a new world for every order and replays the threads, so it copies and
undoes nothing. The search is exhaustive, and therefore only suits small worlds.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shadow.pte_ref.errors import KernelBugError

__all__ = ("Broken", "Thread", "Wait", "explore")


@dataclass(frozen=True)
class Wait:
    """Yielded before a step that must wait until `ready` returns True, such as a lock."""

    step: str
    ready: Callable[[], bool]


Thread = Generator[str | Wait, None, Any]


@dataclass(frozen=True)
class Broken:
    """An order that breaks the kernel.

    Attributes:
        steps: (thread, step) in their order; the last step broke the kernel.
        why: what broke.
    """

    steps: tuple[tuple[str, str], ...]
    why: str

    def __str__(self) -> str:
        """The order as a figure with a column for each thread, like those in the RFC."""
        names = sorted({name for name, _ in self.steps})
        width = 2 + max(len(text) for pair in self.steps for text in pair)
        lines = ["".join(name.ljust(width) for name in names).rstrip()]
        for thread, step in self.steps:
            lines.append(" " * (width * names.index(thread)) + step)
        return "\n".join([*lines, f"broken: {self.why}"])


class _Run:
    """One world, run along one order."""

    def __init__(self, threads: Mapping[str, Thread]) -> None:
        self._threads = dict(threads)
        self._next: dict[str, str | Wait] = {}
        self.steps: list[tuple[str, str]] = []
        for name in list(self._threads):
            self._advance(name)

    def _advance(self, name: str) -> None:
        try:
            self._next[name] = next(self._threads[name])
        except StopIteration:
            self._next.pop(name, None)

    def choices(self) -> list[str]:
        """The threads that can do a step now."""
        ready = []
        for name, pending in self._next.items():
            if not isinstance(pending, Wait) or pending.ready():
                ready.append(name)
        return ready

    def stuck(self) -> bool:
        """Whether all remaining threads wait forever."""
        return bool(self._next) and not self.choices()

    def step(self, name: str) -> None:
        """Let a thread do its next step."""
        pending = self._next[name]
        self.steps.append((name, pending.step if isinstance(pending, Wait) else pending))
        self._advance(name)


def explore(world: Callable[[], Mapping[str, Thread]]) -> Iterator[Broken | None]:
    """Run every order of a world.

    Args:
        world: builds a new world and returns its threads by name.

    Yields:
        For each order, run to its end or to a break, the break or None.
    """
    orders: list[list[str]] = [[]]
    while orders:
        order = orders.pop()
        run = _Run(world())
        try:
            for name in order:
                run.step(name)
            while choices := run.choices():
                taken = [name for name, _ in run.steps]
                orders += [[*taken, other] for other in choices[1:]]
                run.step(choices[0])
        except KernelBugError as error:
            yield Broken(tuple(run.steps), str(error))
            continue
        yield Broken(tuple(run.steps), "deadlock") if run.stuck() else None
