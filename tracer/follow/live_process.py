# SPDX-License-Identifier: GPL-2.0-only
"""A process that is followed by a thread of its own, for callers from Python."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from shadow.engine import Engine, Tee
from shadow.errors import NoSuchTargetError, PtescopeError
from shadow.geometry import SLOT
from shadow.page_columns import pte_pages_of
from shadow.snapshot import Snapshot
from shadow.table import prepare
from tracer.follow.open_tracing import open_tracing, refuse_unread
from tracer.follow.session import LAST_PATIENCE_NS, Session
from tracer.kernel import kernel_facts
from tracer.process.target import open_target

__all__ = ("LiveProcess", "following")

_BUSY_WAIT, _IDLE_WAIT = 0.002, 0.05
"""Seconds between two looks at the ring: events come in, or nothing does."""


class LiveProcess:
    """A process that is followed; `ptescope.attach` makes it.

    A thread of its own takes the events, so the caller may sleep or work meanwhile.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._problem: Exception | None = None
        self._thread = threading.Thread(target=self._follow, name="follow", daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            while not (self._closing.is_set() or self._session.ended):
                with self._lock:
                    came = self._session.pump()
                    if not came and not self._session.target.alive():
                        self._session.process_ended()
                self._closing.wait(_BUSY_WAIT if came else _IDLE_WAIT)
        except Exception as error:  # raised in the caller's thread, by whatever it calls next
            self._problem = error

    def _check(self) -> None:
        if self._problem is not None:
            raise self._problem

    @property
    def shadow(self) -> Engine:
        """What it is followed with; settled once the `with` block is over."""
        return self._session.engine

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._session.ended

    def wait(self, seconds: float | None = None) -> bool:
        """Sleep while it is followed; returns early, and true, when the process ends.

        Args:
            seconds: how long; None: until the process ends.
        """
        self._thread.join(seconds)
        self._check()
        return self.ended

    def audit(self) -> None:
        """Compare the shadow with the real page tables, and repair it; see `Snapshot.audit`."""
        self._check()
        with self._lock:
            self._session.audit(LAST_PATIENCE_NS)

    def snapshot(self) -> Snapshot:
        """What is known now or, after the `with` block, at its end."""
        self._check()
        with self._lock:
            pages = pte_pages_of(self._session.table)
            with suppress(PtescopeError, OSError):  # it has ended: nothing is mapped any more
                names = self._session.target.mapped_at(pages.slots.tolist(), SLOT)
                pages = replace(pages, mapped=names)
            return replace(self._session.snapshot(slots=True), pages=pages)

    def stop(self) -> None:
        """Take the last events, audit once more, and end the window."""
        self._closing.set()
        self._thread.join()
        self._session.stop()


@contextmanager
def following(pid: int, tee: Tee | None) -> Iterator[LiveProcess]:
    """Follow a process while the `with` block runs.

    Args:
        pid: the process.
        tee: is handed all that its shadow is made of; None: nobody is.

    Raises:
        PtescopeError: it cannot be followed.
    """
    kernel, target = kernel_facts(), open_target(pid)
    with open_tracing(kernel) as (probes, reader):
        prepare()  # when it is known that we may follow
        probes.add(target.pid)
        try:
            session = Session(target, probes, kernel, reader, tee)
        except OSError as error:
            raise NoSuchTargetError(f"Process {pid} has just ended.") from error
        session.seed()
        refuse_unread(session)
        live = LiveProcess(session)
        try:
            yield live
        finally:
            live.stop()
