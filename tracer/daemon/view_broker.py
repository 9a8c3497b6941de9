# SPDX-License-Identifier: GPL-2.0-only
"""Views of the host for other threads, made by the thread that watches the host.

The shadows belong to one thread; other threads request views here and wait. Identical requests
during the making of a view share it, and a request within a second of the last view gets that.
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
    """Hands views from the thread that watches the host to other threads.

    Args:
        view: makes a view with the slots of the process with this pid; only the thread that
            watches the host calls it.
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
        """Request a view that is at most a second old; for any thread.

        Args:
            slots_of: pid of the process to include with its slots; None: no process.

        Raises:
            TimeoutError: no view was made within ten seconds.
            PtescopeError: the host is no longer watched, or the view failed.
        """
        try:
            return self._ask(slots_of).result(_PATIENCE)
        except TimeoutError:
            raise TimeoutError("the host was not read within 10 s") from None

    def answer(self) -> None:
        """Make the requested views; for the thread that watches the host."""
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
                problem = PtescopeError(f"The host could not be read: {error!r}.")
                problem.__cause__ = error
                future.set_exception(problem)
            else:
                future.set_result(made[slots_of])
        with self._lock:
            self._last = made

    def wait(self, seconds: float) -> None:
        """Sleep until a request arrives, at most for this time."""
        self._asked.wait(seconds)

    def close(self, why: PtescopeError) -> None:
        """End the watch; later requests raise this error."""
        with self._lock:
            self._ended = why
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(why)
