# SPDX-License-Identifier: GPL-2.0-only
"""Load and attach the probes of `bpf/probes`, and read their event stream."""

import struct
import time
from collections.abc import Callable

import numpy as np

from shadow.events import EVENT, EventBatch, Kind, births, kinds_of
from shadow.geometry import Geometry
from tracer.arch import running
from tracer.bpf.btf import kernel_btf
from tracer.bpf.compile import BPF_FOLDER
from tracer.bpf.program import BpfProgram
from tracer.probes.attachments import Attachments
from tracer.probes.macros import macros, macros_of_stacks
from tracer.probes.progress import Progress, owner_of
from tracer.probes.ring import Ring
from tracer.probes.sources import Backend
from tracer.probes.stack_sampling import StackSampling
from tracer.process.object_ids import SALT

__all__ = ("DEFAULT_RING", "Probes", "take_all")

DEFAULT_RING = 16 << 20
"""Size of the ring, bytes: 349,525 events."""

_FILES = (
    "event",
    running().probes,
    "task",
    "stacks",
    "stream",
    "faults",
    "files",
    "progress",
    "calls",
    "cuts",
    "rare",
    "unseen",
    "tables",
    "life",
)
_EVERYBODY = 0
"""The target for events that affect every process that maps a file."""
_MAX_TARGETS = 65536
_TARGET = struct.Struct("<IIQQQQQ")
"""struct target in bpf/probes/stream.c."""
_SPACE, _LOST = 4, 5
_READS = 2  # half a ring each
_COUNT_MISSED_EVERY = 1.0
"""Seconds; a count takes 2 us for each program."""
_MOST_MISSED = 0xFFFFFFFF
_NO_EVENTS = np.empty(0, EVENT)


def take_all(take: Callable[[], object]) -> None:
    """Take the events so far; one after the other would never end, as a busy process has new ones.

    Args:
        take: takes the events of half a ring.
    """
    for _ in range(_READS):
        take()


def _target(pid: int, follow: bool = False) -> bytes:
    """A process to trace, as the BPF programs keep it."""
    return _TARGET.pack(pid, 0, follow, 0, 0, 0, 0)


class Probes:
    """Attached probes, filtered to the processes that were added.

    Each source of events is attached with the best method that works on this kernel.

    Args:
        geometry: the page tables of the running kernel.
        ring_bytes: size of the ring, a power of two.
        backend: prefer this back end, and use no better one; None: the best for each source.
        stack_ring_bytes: size of the ring of stacks, a power of two; 0: take no stacks.

    Attributes:
        attachments: how each source is attached.
        stacks: the samples of user stacks; None: there are none.

    Raises:
        NotPermittedError: the kernel refuses BPF programs for lack of rights.
        UnsupportedHostError: this host lacks something that the probes need.
    """

    def __init__(
        self,
        *,
        geometry: Geometry,
        ring_bytes: int = DEFAULT_RING,
        backend: Backend | None = None,
        stack_ring_bytes: int = 0,
    ) -> None:
        btf = kernel_btf()
        defines, unknown = macros(btf, geometry, ring_bytes, _MAX_TARGETS)
        if stack_ring_bytes or backend is Backend.RAW_TRACEPOINT:
            # The program of all calls is too large for 6.1's verifier without the code for stacks,
            # which makes it forget values. Without a rate, that code takes no stacks.
            defines |= macros_of_stacks(geometry, stack_ring_bytes)
        self.stacks: StackSampling | None = None
        self._program = BpfProgram(
            [BPF_FOLDER / "probes" / f"{n}.c" for n in _FILES], defines, {"FILE_SALT": SALT}
        )
        try:
            self.attachments = Attachments(self._program, btf, unknown, backend)
            self.ring = Ring(self._program.map_fd("ring"), ring_bytes)
            if stack_ring_bytes:
                self.stacks = StackSampling(self._program, self.attachments, stack_ring_bytes)
        except BaseException:
            self._program.close()
            raise
        self._program.update("targets", _EVERYBODY, _target(_EVERYBODY))
        self._lost: dict[int, int] = {_EVERYBODY: 0}
        self._waiting: dict[int, list[EventBatch]] = {}
        self._added: dict[int, int] = {}
        self._following: set[int] = set()
        self._ended: set[int] = set()
        """Followed processes with an end that was read; waiting events are of a new process."""
        self.missed = 0
        """How often the kernel has skipped a probe, and so an event of some process."""
        self._next_count = time.monotonic() + _COUNT_MISSED_EVERY

    def add(self, pid: int, *, follow: bool = False) -> None:
        """Trace a process, with all its threads, from now on.

        Args:
            pid: the process.
            follow: trace its descendants, too, each from its first instruction on. `remove`
                drops the unread events of a descendant.
        """
        if pid in self._following:
            return  # already traced as a child
        self._lost[pid] = 0
        self._waiting[pid] = []
        self._program.update("targets", pid, _target(pid, follow))
        self._added[pid] = time.monotonic_ns()
        if follow:
            self._following.add(pid)

    def remove(self, pid: int) -> EventBatch:
        """Stop tracing a process and drop its state; returns its unread events."""
        if target := self._program.look_up("targets", pid):
            self._program.delete("spaces", _TARGET.unpack(target)[_SPACE])
        self._program.delete("targets", pid)
        for tid, call in self._program.elements("in_progress").items():
            if owner_of(call) == pid:  # nobody will see its end
                self._program.delete("in_progress", tid)
        self._following.discard(pid)
        self._ended.discard(pid)
        for kept in (self._lost, self._added):
            kept.pop(pid, None)
        if self.stacks:
            self.stacks.forget(pid)
        return np.concatenate([_NO_EVENTS, *self._waiting.pop(pid, [])])

    def set_space(self, pid: int, space: int) -> None:
        """Set the address space of a process, for changes by others before the process acts.

        Args:
            pid: the process.
            space: kernel address of its mm_struct, or 0.
        """
        if space:
            self._program.update("spaces", space, pid.to_bytes(4, "little"))

    def progress(self, pid: int) -> Progress:
        """The calls that affect a process and have not ended; those that have ended have events."""
        return Progress.of(self._program.elements("in_progress").values(), pid)

    def added_at(self, pid: int) -> int:
        """Time from which on a process is traced, ns of CLOCK_MONOTONIC."""
        return self._added[pid]

    def poll(self) -> list[int]:
        """Empty the ring; returns the processes with unread events."""
        take_all(self._take_ring)
        return [pid for pid, waiting in self._waiting.items() if waiting]

    def read(self, pid: int) -> EventBatch:
        """Read the next events of one process in the kernel's order, up to its end.

        A LOSS event has, as `length`, the number of events lost since the last one and, as `aux`,
        how often the kernel skipped a probe since then, perhaps for another process.

        Returns:
            (n,) of `EVENT`; empty if there is nothing new.
        """
        self._take_ring()
        if pid in self._ended:
            return _NO_EVENTS
        batches, self._waiting[pid] = self._waiting[pid], []
        events = batches[0] if len(batches) == 1 else np.concatenate([_NO_EVENTS, *batches])
        if pid in self._following and Kind.EXIT in kinds_of(events):
            # Later events are of another process, a child that got the same pid.
            end = int(np.argmax(events["kind"] == Kind.EXIT)) + 1
            self._ended.add(pid)
            self._waiting[pid].append(events[end:])
            events = events[:end]
        return events

    def _take_ring(self) -> None:
        """Append the events of the ring to the unread events of their processes.

        A LOSS event of the kernel has the number of all events lost so far.
        """
        events = self.ring.read()
        if Kind.LOSS in kinds_of(events):
            for at in np.flatnonzero(events["kind"] == Kind.LOSS):
                tgid, total = int(events["tgid"][at]), int(events["length"][at])
                events["length"][at] = total - self._lost.get(tgid, 0)
                self._lost[tgid] = total
        self._sort(events)
        if time.monotonic() >= self._next_count:
            self.count_missed()

    def count_missed(self) -> None:
        """Count the skipped probes, and add a LOSS event for every process if there are new ones.

        The kernel skips a program if the CPU is already in one, even in that of a preempted task
        (`tracer.probes.preemption`), or is changing a map (bpf_disable_instrumentation).
        """
        self._next_count = time.monotonic() + _COUNT_MISSED_EVERY
        before, self.missed = self.missed, self._program.missed_runs()
        if self.missed > before:
            more = min(self.missed - before, _MOST_MISSED)
            now = time.monotonic_ns()
            for pid, waiting in self._waiting.items():
                waiting.append(np.array([(now, 0, 0, pid, pid, Kind.LOSS, 0, more)], EVENT))

    def _sort(self, events: EventBatch) -> None:
        """Append new events to the unread events of their processes."""
        if len(events) == 0:
            return
        if self._following:
            self._expect_children(events)
        tgids = events["tgid"]
        if (tgids == tgids[0]).all() and tgids[0] != _EVERYBODY:
            if (waiting := self._waiting.get(int(tgids[0]))) is not None:
                waiting.append(events)
            return
        if (tgids == _EVERYBODY).any():
            self._sort_parts(events)
            return
        order = np.argsort(tgids, kind="stable")
        tgids, events = tgids[order], events[order]
        ends = np.append(np.flatnonzero(tgids[1:] != tgids[:-1]) + 1, len(tgids))
        begin = 0
        for end in ends.tolist():
            if (waiting := self._waiting.get(int(tgids[begin]))) is not None:
                # A copy of a part does not keep the whole array in memory.
                waiting.append(events[begin:end].copy())
            begin = end

    def _sort_parts(self, events: EventBatch) -> None:
        """Append events of which some affect all processes, in order with those of each process."""
        everybody = np.flatnonzero(events["tgid"] == _EVERYBODY)
        begin = 0
        for at in everybody.tolist():
            self._sort(events[begin:at])
            for waiting in self._waiting.values():
                waiting.append(events[at : at + 1].copy())
            begin = at + 1
        self._sort(events[begin:])

    def _expect_children(self, events: EventBatch) -> None:
        """Keep events of new children of followed processes from now on."""
        for event in births(events):
            child = int(event["address"])
            if int(event["tgid"]) in self._following and child not in self._following:
                self._following.add(child)
                self._waiting[child], self._lost[child] = [], 0
                self._added[child] = int(event["time"])

    def unreported_loss(self, pid: int, now: int) -> EventBatch:
        """The loss since the last LOSS event in the stream, as an event at time `now` (ns).

        Returns:
            (n,) of `EVENT`, n is 0 or 1.
        """
        target = self._program.look_up("targets", pid)
        lost = _TARGET.unpack(target)[_LOST] if target else 0
        missing = lost - self._lost.get(pid, 0)
        if missing <= 0:
            return _NO_EVENTS
        self._lost[pid] = lost
        return np.array([(now, 0, missing, pid, pid, Kind.LOSS, 0, 0)], EVENT)

    def close(self) -> None:
        """Detach the probes and free the ring."""
        self.ring.close()
        self._program.close()
