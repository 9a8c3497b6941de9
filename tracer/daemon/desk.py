"""Views of the host for other threads, made by the one that watches it.

The shadows belong to one thread. Others ask here and wait; whoever asks within a second
of the last view is given that one.
"""

import threading
import time
from collections.abc import Callable

from shadow.host import HostView

__all__ = ("Desk",)

_FRESH_NS = 1_000_000_000
_PATIENCE = 10.0


class Desk:
    """Between the thread that watches and those that show.

    Args:
        view: makes a view, with the slots of the process with this pid; called by the
            thread that watches only.
    """

    def __init__(self, view: Callable[[int | None], HostView]) -> None:
        self._view = view
        self._opened: int | None = None
        self._asked, self._answered = threading.Event(), threading.Condition()
        self._last: HostView | None = None

    def _fresh(self) -> HostView | None:
        if self._last and time.monotonic_ns() - self._last.time_ns < _FRESH_NS:
            return self._last
        return None

    def ask(self, slots_of: int | None = None) -> HostView:
        """A view that is at most a second old; for any thread.

        Args:
            slots_of: whose slots are to be in it, if anybody's; one asker at a time.

        Raises:
            TimeoutError: none was made in ten seconds.
        """
        with self._answered:
            if slots_of != self._opened:
                self._opened, self._last = slots_of, None
            self._asked.set()
            if not self._answered.wait_for(lambda: self._fresh() is not None, _PATIENCE):
                raise TimeoutError("the host could not be looked at in 10 s")
            assert self._last
            return self._last

    def answer(self) -> None:
        """Make a view if somebody waits for one; for the thread that watches."""
        if self._asked.is_set():
            self._asked.clear()
            if self._fresh() is None:
                self._last = self._view(self._opened)
            with self._answered:
                self._answered.notify_all()

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until somebody asks."""
        self._asked.wait(seconds)
