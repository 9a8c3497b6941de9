# SPDX-License-Identifier: GPL-2.0-only
"""Open the means to follow processes: tested probes, and a reader of page tables."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from shadow.errors import NoSuchTargetError, UnsupportedHostError
from tracer.bpf.btf import kernel_btf
from tracer.census import Reader, open_reader
from tracer.follow.session import Session
from tracer.kernel import KernelFacts
from tracer.probes.selftest import verify_or_fall_back, waiting_child
from tracer.probes.sources import Backend
from tracer.probes.stream import DEFAULT_RING, Probes

if TYPE_CHECKING:
    from tracer.stacks.sampler import StackSampler

__all__ = ("open_stacks", "open_tracing", "refuse_unread")

_SECONDS_TO_END = 1.0
"""Longest time, seconds, until the end of a killed process is visible."""


@contextmanager
def open_tracing(
    kernel: KernelFacts,
    *,
    ring_bytes: int = DEFAULT_RING,
    backend: Backend | None = None,
    stack_ring_bytes: int = 0,
) -> Iterator[tuple[Probes, Reader]]:
    """Attach and test the probes, and open the reader; both are closed at the end.

    Args:
        kernel: the running kernel.
        ring_bytes: size of the ring, a power of two.
        backend: see `Probes`.
        stack_ring_bytes: likewise.

    Raises:
        NotPermittedError: the kernel refuses BPF programs for lack of rights.
        UnsupportedHostError: this host lacks something that the probes need.
    """
    with ExitStack() as undo:
        with waiting_child() as child:
            probes = Probes(
                geometry=kernel.geometry,
                ring_bytes=ring_bytes,
                backend=backend,
                stack_ring_bytes=stack_ring_bytes,
            )
            undo.callback(probes.close)
            verify_or_fall_back(probes, child)
        reader = open_reader(kernel.geometry)
        undo.callback(reader.close)
        kernel_btf.cache_clear()
        yield probes, reader


@contextmanager
def open_stacks(
    probes: Probes, reader: Reader, rate: int | None
) -> Iterator["StackSampler | None"]:
    """Start to take stacks, if probes were opened with a ring for them.

    Args:
        probes: attached probes.
        reader: reads page tables.
        rate: the maximum number of stacks a second; None: take none.

    Raises:
        UnsupportedHostError: the unwinder does not start.
    """
    if rate is None:
        yield None
        return
    from tracer.stacks.sampler import StackSampler  # with what only stacks need

    assert probes.stacks
    sampler = StackSampler(probes.stacks, rate, reader.direct_map)
    try:
        yield sampler
    finally:
        sampler.close()


def refuse_unread(session: Session) -> None:
    """Raise an error if the first reading of a process failed.

    Raises:
        NoSuchTargetError: the process ended before it could be read.
        UnsupportedHostError: the process runs, but could not be read.
    """
    if session.was_read:
        return
    pid, deadline = session.target.pid, time.monotonic() + _SECONDS_TO_END
    while session.target.alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    if session.target.alive():
        raise UnsupportedHostError(f"Process {pid} runs, but its page tables cannot be read.")
    raise NoSuchTargetError(f"Process {pid} ended before it could be read.")
