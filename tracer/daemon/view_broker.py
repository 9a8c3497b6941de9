# SPDX-License-Identifier: GPL-2.0-only
"""Views of the host for other threads, made by the one that watches it.

The shadows belong to one thread. Others ask here and wait. All who ask for the same while one
is being made share it, and who asks within a second of the last one is given that.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from shadow.errors import PtescopeError
from shadow.host_view import HostView

__all__ = ("ViewBroker",)

_FRESH_NS = 1_000_000_000
_PATIENCE = 10.0


class ViewBroker:
    """Between the thread that watches and those that show.

    Args:
        view: makes a view, with the slots of the process with this pid; called by the
            thread that watches only.
    """

    def __init__(self, view: Callable[[int | None], HostView]) -> None:
        self._view = view
        self._lock = threading.Lock()
        self._asked = threading.Event()
        self._waiting: dict[int | None, Future[HostView]] = {}
        self._last: dict[int | None, HostView] = {}
        self._ended: PtescopeError | None = None

    def _ask(self, slots_of: int | None) -> Future[HostView]:
        with self._lock:
            last = self._last.get(slots_of)
            if self._ended is None and last and time.monotonic_ns() - last.time_ns < _FRESH_NS:
                fresh: Future[HostView] = Future()
                fresh.set_result(last)
                return fresh
            if self._ended is not None:
                raise self._ended
            self._asked.set()
            return self._waiting.setdefault(slots_of, Future())

    def ask(self, slots_of: int | None = None) -> HostView:
        """A view that is at most a second old; for any thread.

        Args:
            slots_of: whose slots are to be in it, if anybody's.

        Raises:
            TimeoutError: none was made in ten seconds.
            PtescopeError: the host is not watched any more, or could not be looked at.
        """
        try:
            return self._ask(slots_of).result(_PATIENCE)
        except TimeoutError:
            raise TimeoutError("the host could not be looked at in 10 s") from None

    def answer(self) -> None:
        """Make the views that are waited for; for the thread that watches."""
        if not self._asked.is_set():
            return
        with self._lock:
            self._asked.clear()
            waiting, self._waiting = self._waiting, {}
        made = {}
        for slots_of, future in waiting.items():
            try:
                made[slots_of] = self._view(slots_of)
            except Exception as error:
                problem = PtescopeError(f"The host could not be looked at: {error!r}.")
                problem.__cause__ = error
                future.set_exception(problem)
            else:
                future.set_result(made[slots_of])
        with self._lock:
            self._last = made

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until somebody asks."""
        self._asked.wait(seconds)

    def close(self, why: PtescopeError) -> None:
        """Nobody watches any more; who asks is given the reason."""
        with self._lock:
            self._ended = why
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(why)
