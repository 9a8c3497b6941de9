# SPDX-License-Identifier: GPL-2.0-only
"""The unwinder as the process that follows sees it: starts it, and sorts its results."""

import fcntl
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shadow.errors import UnsupportedHostError
from shadow.isolated_python import isolated_python
from shadow.records import Stacks
from shadow.stacks import (
    MOST_FRAMES,
    MOST_STACKS,
    NO_STACK,
    STACK_SAMPLE,
    Frame,
    Stack,
    StackTotals,
)
from tracer.arch import running
from tracer.probes.stack_sampling import StackSampling
from tracer.stacks.libdw import libdw
from tracer.stacks.messages import SAMPLE_ROW, Batch, MessageBuffer, Order, Work, packed

__all__ = ("StackSampler",)

_PROGRAM = "from tracer.stacks.worker import main; main(*map(int, sys.argv[1:]))"
_START_SECONDS = 30.0
_FLUSH_SECONDS = 5.0
_END_SECONDS = 2.0
_PIPE_BYTES = 1 << 20
_MOST_WAITING = 1 << 16
_NETWORK = "DEBUGINFOD_URLS"
"""libdw would fetch debug files from these servers, and wait for them."""


@dataclass
class _Owner:
    """The stacks of one followed process.

    Attributes:
        frames: its number of each frame of the unwinder.
        stacks: its number of each stack of the unwinder.
        new_frames: frames that no record has yet.
        new_stacks: likewise.
        samples: likewise.
        waiting: the number of samples that no record has yet.
        totals: as in the last record.
    """

    frames: dict[int, int] = field(default_factory=dict)
    stacks: dict[int, int] = field(default_factory=dict)
    new_frames: list[Frame] = field(default_factory=list)
    new_stacks: list[Stack] = field(default_factory=list)
    samples: list[npt.NDArray[np.void]] = field(default_factory=list)
    waiting: int = 0
    totals: StackTotals | None = None


class StackSampler:
    """Stacks of all followed processes.

    Args:
        sampling: the samples of the probes.
        rate: the maximum number of stacks a second.
        direct_map: see `StackSampling.start`.

    Raises:
        UnsupportedHostError: libdw is missing, the unwinder does not start, or ptescope does not
            unwind stacks of this architecture.
    """

    def __init__(self, sampling: StackSampling, rate: int, direct_map: int | None) -> None:
        if not running().stacks:  # fail before anything is started
            raise UnsupportedHostError(
                f"ptescope does not unwind stacks on {running().name}; run without --stacks."
            )
        libdw()
        self._sampling, self.rate = sampling, rate
        self.problem: str | None = None
        """Why there are no more stacks."""
        self._owners: dict[int, _Owner] = {}
        self._frames: list[Frame] = []
        self._stacks: list[Stack] = []
        self._work: dict[int, Work] = {}
        self._flushes = self._flushed = 0
        self._ready = False
        self._buffer = MessageBuffer(Batch)
        fd = sampling.ring_fd
        environment = {name: text for name, text in os.environ.items() if name != _NETWORK}
        self._child = subprocess.Popen(
            [*isolated_python(_PROGRAM), str(fd), str(sampling.ring_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(fd,),
            start_new_session=True,  # Ctrl-C is for ptescope
            env=environment,
        )
        assert self._child.stdin
        assert self._child.stdout
        self._orders, self._results = self._child.stdin.fileno(), self._child.stdout.fileno()
        os.set_blocking(self._results, False)
        with suppress(OSError):  # 40,000 samples, for times when nobody reads
            fcntl.fcntl(self._results, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        sampling.start(rate, direct_map)

    def follow(self, pid: int) -> None:
        """Take the stacks of another process from now on.

        The first call waits until the unwinder is ready, so that it reads the mappings of a
        library while it is loaded.

        Raises:
            UnsupportedHostError: the unwinder has not started.
        """
        if not self._ready:
            self._wait(lambda: self._ready, _START_SECONDS)
            if not self._ready:
                raise UnsupportedHostError(
                    f"The unwinder of stacks has not started: {self.problem or 'it is too slow'}"
                )
        self._owners[pid] = _Owner()
        self._order(Order(follow=pid))

    def forget(self, pid: int) -> None:
        """Drop what is kept of a process that is no longer followed."""
        self._owners.pop(pid, None)
        self._work.pop(pid, None)

    def _order(self, order: Order) -> None:
        try:
            os.write(self._orders, packed(order))
        except OSError:
            self._ended()

    def _ended(self) -> None:
        """Note that the unwinder has ended."""
        if self.problem is None:
            status = self._child.wait()
            why = signal.Signals(-status).name if status < 0 else f"status {status}"
            self.problem = f"The unwinder ended ({why}); later events have no stacks."

    def poll(self, seconds: float = 0.0) -> None:
        """Sort the results that have come, or that come within this time."""
        if self.problem is not None:
            return
        if seconds:
            select.select([self._results], [], [], seconds)
        try:
            while data := os.read(self._results, 1 << 20):
                for batch in self._buffer.messages(data):
                    self._sort(batch)
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            self._child.kill()
            self._ended()
            self.problem = f"The unwinder failed: {error}."
            return
        self._ended()

    def _wait(self, over: Callable[[], bool], seconds: float) -> None:
        """Sort results until `over` returns true, the time has passed, or there are no more."""
        deadline = time.monotonic() + seconds
        while not over() and self.problem is None and (left := deadline - time.monotonic()) > 0:
            self.poll(left)

    def _sort(self, batch: Batch) -> None:
        if batch.problem is not None:
            self.problem = f"The unwinder failed ({batch.problem}); later events have no stacks."
            return
        self._ready = True
        self._frames += batch.frames
        self._stacks += batch.stacks
        self._work |= batch.work
        self._flushed = batch.flushed
        samples = np.frombuffer(batch.samples, SAMPLE_ROW)
        for pid in np.unique(samples["owner"]).tolist():
            owner = self._owners.get(pid)
            if owner is not None and owner.waiting < _MOST_WAITING:
                self._keep(owner, samples[samples["owner"] == pid])

    def _keep(self, owner: _Owner, rows: npt.NDArray[np.void]) -> None:
        samples = np.empty(len(rows), STACK_SAMPLE)
        samples["time"], samples["tid"] = rows["time"], rows["tid"]
        samples["stack"] = [self._number(owner, each) for each in rows["stack"].tolist()]
        owner.samples.append(samples)
        owner.waiting += len(samples)

    def _number(self, owner: _Owner, stack: int) -> int:
        """The number of a stack among those of one process."""
        known = owner.stacks.get(stack)
        if known is not None:
            return known
        if stack >= len(self._stacks) or len(owner.stacks) >= MOST_STACKS:
            return NO_STACK
        found = self._stacks[stack]
        if len(owner.frames) + len(found.frames) > MOST_FRAMES:
            return NO_STACK
        owner.stacks[stack] = len(owner.stacks)
        numbers = []
        for frame in found.frames:
            if frame not in owner.frames:
                owner.frames[frame] = len(owner.frames)
                owner.new_frames.append(self._frames[frame])
            numbers.append(owner.frames[frame])
        owner.new_stacks.append(Stack(numbers, found.complete))
        return owner.stacks[stack]

    def take(self, pid: int, now_ns: int) -> Stacks | None:
        """What has come for a process since the last call; None: nothing new."""
        owner = self._owners.get(pid)
        if owner is None:
            return None
        totals = self._totals(pid)
        if totals == owner.totals and not owner.waiting:
            return None
        frames, stacks, samples = owner.new_frames, owner.new_stacks, owner.samples
        owner.new_frames, owner.new_stacks, owner.samples, owner.waiting = [], [], [], 0
        owner.totals = totals
        return Stacks(
            time=now_ns,
            first_frame=len(owner.frames) - len(frames),
            first_stack=len(owner.stacks) - len(stacks),
            frames=frames,
            stacks=stacks,
            samples=np.concatenate([np.empty(0, STACK_SAMPLE), *samples]),
            totals=totals,
        )

    def _totals(self, pid: int) -> StackTotals:
        counts, work = self._sampling.counts(pid), self._work.get(pid, Work())
        return StackTotals(
            rate=self.rate,
            seen=counts.seen,
            taken=counts.taken,
            sure=counts.sure,
            sure_taken=counts.sure_taken,
            lost=counts.lost,
            unread=counts.unread,
            unwound=work.unwound,
            complete=work.complete,
            repeats=work.repeats,
            unwind_ns=work.unwind_ns,
            names_ns=work.names_ns,
            problem=self.problem or self._sampling.without_faults,
        )

    def flush(self) -> None:
        """Wait until all samples so far are unwound, but not endlessly."""
        self._flushes += 1
        self._order(Order(flush=self._flushes))
        self._wait(lambda: self._flushed == self._flushes, _FLUSH_SECONDS)
        if self._flushed < self._flushes and self.problem is None:
            self.problem = "The unwinder did not finish in time; the last events have no stacks."

    def close(self) -> None:
        """End the unwinder."""
        try:
            self._child.communicate(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.communicate()
