# SPDX-License-Identifier: GPL-2.0-only
"""Samples of user stacks, which the probes put into a ring of their own (`bpf/probes/stacks.c`).

A sample has the thread and the time of its event, so that both can be joined without a field in
the event. The rate is bounded in the kernel, before a stack is copied.
"""

import struct
from dataclasses import dataclass

import numpy as np

from shadow.errors import NotPermittedError, UnsupportedHostError
from shadow.units import NS
from tracer.arch import running
from tracer.bpf.hook import AttachType, Hook
from tracer.bpf.program import BpfProgram
from tracer.probes.attachments import Attachments
from tracer.probes.sources import Backend

__all__ = ("NEW_CODE", "SAMPLE", "STACK_RING", "StackCounts", "StackSampling")

STACK_RING = 16 << 20
"""Size of the ring of stacks, bytes: 2,000 stacks."""
_STACK_BYTES = 8192
_REGISTERS = 21
SAMPLE = np.dtype(
    [
        ("time", "<u8"),
        ("address", "<u8"),
        ("registers", "<u8", (_REGISTERS,)),  # struct pt_regs
        ("owner", "<u4"),  # process that owns the page tables
        ("tgid", "<u4"),  # process of the thread
        ("tid", "<u4"),
        ("code", "<u4"),  # how often the process got new code before
        ("kind", "<u4"),  # of the event; `NEW_CODE`: the process only got new code
        ("size", "<u4"),  # bytes of the stack
        ("data", "<u8", (_STACK_BYTES // 8,)),
    ]
)
"""One sample: struct stack_sample."""
NEW_CODE = 0
_SETTINGS = struct.Struct("<7Q")
"""struct stack_settings: interval, ahead and next of all stacks and of others; the direct map."""
_COUNTS = struct.Struct("<6Q")
"""struct stack_counts, in the order of `StackCounts`."""
_FAULT_HOOKS = tuple(
    Hook(AttachType.RAW_TRACEPOINT, name, "fault_begins_raw")
    for name in running().fault_tracepoints or ()
)


@dataclass(frozen=True)
class StackCounts:
    """What happened to the stacks of one process.

    Attributes:
        seen: events that could have had a stack.
        taken: stacks that were sampled.
        sure: the part of `seen` that made or emptied a PTE page, as the page tables showed.
        sure_taken: the part of `taken`, likewise.
        lost: stacks for which the ring had no room.
        unread: sampled stacks whose memory could not be read.
    """

    seen: int = 0
    taken: int = 0
    sure: int = 0
    sure_taken: int = 0
    lost: int = 0
    unread: int = 0


def _turns(rate: int) -> tuple[int, int]:
    """The time between two stacks, and how much of it may be saved up, both in ns.

    Together they allow at most `rate` stacks in every second, up to half of them at once, because
    allocators purge in bursts.
    """
    at_once = rate // 2
    interval = -(-NS // (rate - at_once))
    return interval, at_once * interval


class StackSampling:
    """The samples of a loaded program that was compiled with stacks.

    Args:
        program: the program.
        attachments: how its sources are attached.
        ring_bytes: size of the ring.
    """

    def __init__(self, program: BpfProgram, attachments: Attachments, ring_bytes: int) -> None:
        self._program, self.ring_bytes = program, ring_bytes
        self.without_faults: str | None = None
        """A sentence on why faults have no stacks; None: they have."""
        if attachments.by_source["page fault"].backend is not Backend.RAW_TRACEPOINT:
            try:
                for hook in _FAULT_HOOKS:
                    program.attach(hook)
            except (NotPermittedError, UnsupportedHostError) as error:
                self.without_faults = f"Faults have no stacks. {error}"

    @property
    def ring_fd(self) -> int:
        """The file descriptor of the ring."""
        return self._program.map_fd("stacks")

    def start(self, rate: int, direct_map: int | None) -> None:
        """Take samples from now on.

        Args:
            rate: the maximum number of stacks a second.
            direct_map: kernel address of physical address 0, with which the probes recognise
                events that make or empty a PTE page; None: unknown, so all events are equal.
        """
        # Calls that may do neither get a quarter, because there can be very many of them.
        other = max(rate // 4, 1) if direct_map else rate
        settings = _SETTINGS.pack(*_turns(rate), 0, *_turns(other), 0, direct_map or 0)
        self._program.update("stack_settings", 0, settings)

    def counts(self, pid: int) -> StackCounts:
        """What has happened to the stacks of a process."""
        found = self._program.look_up("stack_counts", pid)
        return StackCounts() if found is None else StackCounts(*_COUNTS.unpack(found))

    def forget(self, pid: int) -> None:
        """Drop the state of a process that is no longer followed."""
        for name in ("stack_counts", "code_changes"):
            self._program.delete(name, pid)
