# SPDX-License-Identifier: GPL-2.0-only
"""The loop that follows: take events, do what is due, pause, until it is over.

Every command and tool that follows processes runs this loop. It knows neither arguments
nor screens; its callers hand it functions.
"""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Self

__all__ = ("Pace", "Stop", "Task", "follow")

_MANY = 20_000
"""Events of a pass after which the next follows at once: half of a ring of 2 MiB."""


class Stop:
    """Becomes true on SIGINT or SIGTERM, so that the run ends with its report.

    It is a context manager that restores the signal handlers. Within it, `listen` takes
    over the signals; before that, a signal ends the program as usual.

    Args:
        patient: whether a second signal changes nothing, as a service manager expects;
            else it ends the program at once, without a report.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self._patient = patient
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def listen(self) -> None:
        """Handle SIGINT and SIGTERM from now on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.signal(number, self._ask)
            # None: the handler was not installed from Python, which cannot restore it.
            self._before.setdefault(number, signal.SIG_DFL if before is None else before)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self._asked and not self._patient:
            raise SystemExit(128 + number)
        self._asked = True

    def __call__(self) -> bool:
        """Whether a signal has arrived."""
        return self._asked


@dataclass(frozen=True)
class Task:
    """A task that the loop runs at intervals.

    Attributes:
        every: seconds between two runs. A run that takes longer than this delays the next
            one by the whole interval, so that events are taken in between.
        run: the function to call.
        at_once: whether the first run is in the first pass, not one interval later.
    """

    every: float
    run: Callable[[], object]
    at_once: bool = False


@dataclass(frozen=True)
class Pace:
    """Seconds between two passes of the loop.

    Each pass has a fixed cost of some 200 us, so fewer passes leave more of the CPU to the target.

    Attributes:
        busy: after a pass that found events.
        idle: after a pass that found none.
    """

    busy: float = 0.02
    idle: float = 0.05

    def after(self, came: int) -> float:
        """Seconds to wait after a pass that found this many events; 0 if the ring may fill."""
        if came >= _MANY:
            return 0
        return self.busy if came else self.idle


def follow(
    pump: Callable[[], int],
    over: Callable[[], bool],
    *,
    duration: float | None = None,
    tasks: Sequence[Task] = (),
    pace: Pace | None = None,
    wait: Callable[[float], object] = time.sleep,
) -> None:
    """Pump events until `over` returns true or the time has passed.

    Args:
        pump: takes new events; returns their number.
        over: returns true to stop; it is called before each pass.
        duration: seconds after which to stop; None: never.
        tasks: the tasks to run at intervals.
        pace: pauses between passes; None: those for a single process.
        wait: pauses for the given seconds, or less.
    """
    pace = pace or Pace()
    begin = time.monotonic()
    end = begin + duration if duration else float("inf")
    due = [begin if task.at_once else begin + task.every for task in tasks]
    while not over():
        came = pump()
        for number, task in enumerate(tasks):
            if time.monotonic() >= due[number]:
                task.run()
                due[number] = _next_due(due[number], task.every)
        now = time.monotonic()
        if now >= end:
            return
        wait(min(pace.after(came), end - now))


def _next_due(due: float, every: float) -> float:
    """One interval after `due`, or after now if that time has passed already."""
    now = time.monotonic()
    return due + every if due + every > now else now + every
