# SPDX-License-Identifier: GPL-2.0-only
"""A process that a background thread follows, for Python callers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from shadow.engine import Engine, Tee
from shadow.errors import NoSuchTargetError, PtescopeError
from shadow.page_columns import pte_pages_of
from shadow.precompile import prepare
from shadow.snapshot import Snapshot
from tracer.follow.loop import follow
from tracer.follow.open_tracing import open_tracing, refuse_unread
from tracer.follow.session import LAST_PATIENCE_NS, Session
from tracer.kernel import kernel_facts
from tracer.process.target import open_target

__all__ = ("LiveProcess", "following")


class LiveProcess:
    """A followed process; `ptescope.attach` makes it.

    A background thread takes the events, so the caller may sleep or work.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._problem: Exception | None = None
        self._thread = threading.Thread(target=self._follow, name="follow", daemon=True)
        self._thread.start()

    def _pump(self) -> int:
        with self._lock:
            return self._session.follow()

    def _over(self) -> bool:
        return self._closing.is_set() or self._session.ended

    def _follow(self) -> None:
        try:
            follow(self._pump, self._over, wait=self._closing.wait)
        except Exception as error:  # the next call raises it in the caller's thread
            self._problem = error

    def _check(self) -> None:
        if self._problem is not None:
            raise self._problem

    @property
    def shadow(self) -> Engine:
        """The engine of its shadow; it changes until the `with` block ends."""
        return self._session.engine

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._session.ended

    def wait(self, seconds: float | None = None) -> bool:
        """Sleep while the thread follows; returns true early when the process ends.

        Args:
            seconds: the time to sleep; None: until the process ends.
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
        """The current state or, after the `with` block, the state at its end."""
        self._check()
        with self._lock:
            pages = pte_pages_of(self._session.table, threads=self._session.engine.facts.threads)
            with suppress(PtescopeError, OSError):  # an ended process maps nothing
                names = self._session.target.mapped_at(
                    pages.slots.tolist(), self._session.engine.table.geometry.slot
                )
                pages = replace(pages, mapped=names)
            return replace(self._session.snapshot(slots=True), pages=pages)

    def stop(self) -> None:
        """Take the last events, run a last audit, and end the window."""
        self._closing.set()
        self._thread.join()
        self._session.stop()


@contextmanager
def following(pid: int, tee: Tee | None) -> Iterator[LiveProcess]:
    """Follow a process while the `with` block runs.

    Args:
        pid: the process.
        tee: receives every record of the shadow; None: the records are not kept.

    Raises:
        PtescopeError: the process cannot be followed.
    """
    kernel, target = kernel_facts(), open_target(pid)
    with open_tracing(kernel) as (probes, reader):
        prepare(kernel.geometry)  # only after the checks of rights
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
