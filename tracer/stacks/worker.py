# SPDX-License-Identifier: GPL-2.0-only
"""The unwinder: a process of its own that empties the ring of stacks.

It reads files of other users with a library in C, so it runs apart from the process that
follows: a crash costs the stacks, not the events. It keeps only the rights to read. It ends when
its standard input is closed.
"""

import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from shadow.stacks import MOST_FRAMES, MOST_STACKS, NO_STACK, Frame, Stack
from tracer.capabilities import drop_capabilities
from tracer.probes.ring import Ring
from tracer.probes.stack_sampling import NEW_CODE, SAMPLE
from tracer.stacks.callbacks import compile_callbacks
from tracer.stacks.messages import SAMPLE_ROW, Batch, MessageBuffer, Order, Work, packed
from tracer.stacks.naming import demangler
from tracer.stacks.process_stacks import ProcessStacks

__all__ = ("main",)

_AT_ONCE = 64
_IDLE_MS = 20
_MOST_PROCESSES = 256
_LONGEST_PROBLEM = 300
_RIGHTS = ("CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE", "CAP_CHECKPOINT_RESTORE")
"""The last one opens files of /proc/PID/map_files, which may be deleted or in a container."""


class _Numbers:
    """Numbers the distinct frames and stacks of all processes."""

    def __init__(self) -> None:
        self._frames: dict[Frame, int] = {}
        self._stacks: dict[tuple[tuple[Frame, ...], bool], int] = {}
        self.new_frames: list[Frame] = []
        self.new_stacks: list[Stack] = []

    def stack(self, frames: tuple[Frame, ...], complete: bool) -> int:
        """The number of a stack; `NO_STACK` if there are too many."""
        known = self._stacks.get((frames, complete))
        if known is not None:
            return known
        if len(self._stacks) >= MOST_STACKS or len(self._frames) + len(frames) > MOST_FRAMES:
            return NO_STACK
        number = self._stacks[frames, complete] = len(self._stacks)
        self.new_stacks.append(Stack([self._frame(frame) for frame in frames], complete))
        return number

    def _frame(self, frame: Frame) -> int:
        if frame not in self._frames:
            self._frames[frame] = len(self._frames)
            self.new_frames.append(frame)
        return self._frames[frame]


class _Worker:
    """The loop of the unwinder."""

    def __init__(self, ring: Ring, ring_fd: int, write: Callable[[bytes], None]) -> None:
        self._ring, self._ring_fd, self._write = ring, ring_fd, write
        self._callbacks, self._demangle = compile_callbacks(), demangler()
        self._processes: dict[int, ProcessStacks] = {}
        self._numbers = _Numbers()
        self._work: dict[int, Work] = {}
        self._changed: set[int] = set()
        """Owners whose work has changed since the last batch."""
        self._orders = MessageBuffer(Order)
        self._flushed = 0
        self._send(b"")

    def run(self, orders: int) -> None:
        """Work until the orders end."""
        poll = select.poll()
        poll.register(orders, select.POLLIN)
        poll.register(self._ring_fd, select.POLLIN)
        while True:
            taken = self._take()
            if orders in dict(poll.poll(0 if taken else _IDLE_MS)):
                data = os.read(orders, 1 << 16)
                if not data:
                    return
                for order in self._orders.messages(data):
                    self._obey(order)

    def _obey(self, order: Order) -> None:
        if order.follow:
            self._process(order.follow).read_mappings()
        if order.flush:
            while self._take():
                pass
            self._flushed = order.flush
            self._send(b"")

    def _process(self, pid: int) -> ProcessStacks:
        process = self._processes.pop(pid, None)
        if process is None:
            if len(self._processes) >= _MOST_PROCESSES:
                oldest = next(iter(self._processes))
                self._processes.pop(oldest).close()
            number = self._numbers.stack
            process = ProcessStacks(pid, self._callbacks, self._demangle, number)
        self._processes[pid] = process  # the one used last is at the end
        return process

    def _take(self) -> int:
        """Unwind some samples and send the results; returns their number."""
        samples = self._ring.read(_AT_ONCE)
        if not len(samples):
            return 0
        self._changed = set(samples["owner"].tolist())
        stacks = [self._number(sample) for sample in samples]
        rows = np.empty(len(samples), SAMPLE_ROW)
        for name in ("time", "owner", "tid"):
            rows[name] = samples[name]
        rows["stack"] = stacks
        self._send(rows[samples["kind"] != NEW_CODE].tobytes())
        return len(samples)

    def _number(self, sample: np.void) -> int:
        """The number of the stack of a sample; `NO_STACK` if it has none."""
        process = self._process(int(sample["tgid"]))
        if sample["kind"] == NEW_CODE:
            process.new_code(int(sample["code"]))
        elif sample["size"]:
            work = self._work.setdefault(int(sample["owner"]), Work())
            return process.take(sample, memoryview(sample["data"]), work)
        return NO_STACK

    def _send(self, samples: bytes) -> None:
        numbers = self._numbers
        frames, numbers.new_frames = numbers.new_frames, []
        stacks, numbers.new_stacks = numbers.new_stacks, []
        work = {owner: self._work[owner] for owner in self._changed if owner in self._work}
        self._write(packed(Batch(frames, stacks, samples, work, self._flushed)))


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]


def main(ring_fd: int, ring_bytes: int) -> None:
    """Unwind the samples of a ring until standard input ends."""
    with suppress(BrokenPipeError):  # ptescope has ended
        try:
            drop_capabilities(_RIGHTS)
            ring = Ring(ring_fd, ring_bytes, SAMPLE)
            _Worker(ring, ring_fd, _write_all).run(sys.stdin.fileno())
        except BrokenPipeError:
            raise
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"[:_LONGEST_PROBLEM]
            _write_all(packed(Batch([], [], b"", {}, 0, problem)))
