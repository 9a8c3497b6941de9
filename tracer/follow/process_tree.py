# SPDX-License-Identifier: GPL-2.0-only
"""Follow a process and, on request, its descendants: one session each, one stream."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from shadow.engine import Tee
from shadow.errors import NoSuchTargetError, PtescopeError
from tracer.census import Reader
from tracer.follow.session import LAST_PATIENCE_NS, Session, children_of
from tracer.kernel import KernelFacts
from tracer.probes.stream import Probes
from tracer.process.target import Target, open_target

if TYPE_CHECKING:
    from tracer.stacks.sampler import StackSampler

__all__ = ("ProcessTree",)


class ProcessTree:
    """The sessions of processes that are followed together.

    Args:
        probes: attached probes.
        kernel: the running kernel.
        reader: reads page tables.
        forks: whether to follow descendants too.
        tee: makes, for each, what is handed all that its shadow is made of.
        stacks: the stacks of all processes; None: take none.
    """

    def __init__(
        self,
        probes: Probes,
        kernel: KernelFacts,
        reader: Reader,
        *,
        forks: bool,
        tee: Callable[[], Tee] | None = None,
        stacks: "StackSampler | None" = None,
    ) -> None:
        self._probes, self._kernel, self._reader, self._forks = probes, kernel, reader, forks
        self._tee, self._stacks = tee, stacks
        self.sessions: list[Session] = []
        """The sessions of all processes, including ended ones, in order."""
        self._running: dict[int, Session] = {}
        self.missed = 0
        """Number of forked processes that ended before they could be read."""

    def add(self, target: Target) -> None:
        """Start to follow a process.

        Raises:
            NoSuchTargetError: the process has ended.
        """
        self.read(target)
        self.sessions[-1].start()

    def read(self, target: Target) -> None:
        """Add a process and read its state; the caller then starts its session.

        Raises:
            NoSuchTargetError: the process has ended.
        """
        self._probes.add(target.pid, follow=self._forks)
        try:
            tee = self._tee() if self._tee else None
            session = Session(
                target, self._probes, self._kernel, self._reader, tee, stacks=self._stacks
            )
        except OSError as error:
            raise NoSuchTargetError(f"Process {target.pid} has just ended.") from error
        session.read()
        self.sessions.append(session)
        self._running[target.pid] = session

    def pump(self) -> int:
        """Take the new events of all processes; returns their number."""
        count = 0
        for session in list(self._running.values()):
            if self._running.get(session.target.pid) is not session:
                continue  # the pid is reused
            count += session.follow()
            children = self._let_go(session) if session.ended else session.children
            session.children = []
            if self._forks:
                self._adopt(children)
        return count

    def _let_go(self, ended: Session) -> list[int]:
        """End the window of an ended process; another process may reuse its pid.

        Returns:
            Its children that are not followed yet, and those of the new process with its pid.
        """
        ended.stop()
        del self._running[ended.target.pid]
        return ended.children + children_of(self._probes.remove(ended.target.pid))

    def _adopt(self, found: list[int]) -> None:
        """Follow children; the first reading of each includes its earlier changes."""
        children = deque(found)
        while children:
            pid = children.popleft()
            if pid in self._running:  # the former process with this pid; its end is not read yet
                self._running[pid].process_ended()
                children += self._let_go(self._running[pid])
            try:
                self.add(open_target(pid))
            except (PtescopeError, OSError):
                self.missed += 1
                self._probes.poll()
                children += children_of(self._probes.remove(pid))

    def ended(self) -> bool:
        """Whether all processes have ended."""
        return not self._running

    def audit(self) -> None:
        """Audit all processes."""
        for session in self._running.values():
            session.audit()

    def stop(self) -> None:
        """End all windows, within the time that a single one may take."""
        for session in self._running.values():
            session.stop(LAST_PATIENCE_NS // len(self._running))
