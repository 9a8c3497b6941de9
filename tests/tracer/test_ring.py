# SPDX-License-Identifier: GPL-2.0-only
"""The reader of the ring, on a file with the kernel's layout of the map."""

import mmap
import os
import struct

import numpy as np
import pytest

from shadow.events import EVENT, Kind
from tracer.probes.ring import Ring

_SIZE = 4096
_RECORD = 8 + EVENT.itemsize
_BUSY, _DISCARD = 1 << 31, 1 << 30


class _Kernel:
    """The producer's side."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * mmap.PAGESIZE + 2 * _SIZE)
        self._produced = 0

    def submit(self, address: int, flags: int = 0) -> None:
        """Reserve and fill one record."""
        event = np.zeros(1, EVENT)
        event["address"], event["kind"] = address, Kind.FAULT
        record = struct.pack("<II", EVENT.itemsize | flags, 0) + event.tobytes()
        start = 2 * mmap.PAGESIZE
        for i, byte in enumerate(record):
            at = (self._produced + i) % _SIZE
            for copy in (0, _SIZE):
                os.pwrite(self.fd, bytes([byte]), start + at + copy)
        self._produced += len(record)
        os.pwrite(self.fd, struct.pack("<Q", self._produced), mmap.PAGESIZE)

    def commit(self, number: int) -> None:
        """Clear BUSY of the record with this number, in the first lap only."""
        header = struct.pack("<I", EVENT.itemsize)
        os.pwrite(self.fd, header, 2 * mmap.PAGESIZE + number * _RECORD)

    def fill(self, number: int, address: int) -> None:
        """Write the address of the record with this number, in the first lap only."""
        at = 2 * mmap.PAGESIZE + number * _RECORD + 8 + EVENT["time"].itemsize
        os.pwrite(self.fd, struct.pack("<Q", address), at)

    def consumed(self) -> int:
        """The consumer's position, which the reader writes."""
        (position,) = struct.unpack("<Q", os.pread(self.fd, 8, 0))
        return int(position)


@pytest.fixture
def kernel() -> _Kernel:
    return _Kernel()


def test_records_come_in_order_and_free_their_space(kernel: _Kernel) -> None:
    ring = Ring(kernel.fd, _SIZE)
    for address in range(23):
        kernel.submit(address)
    assert ring.read()["address"].tolist() == list(range(23))
    assert kernel.consumed() == 23 * _RECORD
    assert len(ring.read()) == 0


def test_reading_stops_at_a_record_that_is_not_submitted_yet(kernel: _Kernel) -> None:
    ring = Ring(kernel.fd, _SIZE)
    kernel.submit(1)
    kernel.submit(2, _BUSY)
    kernel.submit(3)
    assert ring.read()["address"].tolist() == [1]
    kernel.commit(1)
    assert ring.read()["address"].tolist() == [2, 3]


def test_discarded_records_are_skipped(kernel: _Kernel) -> None:
    ring = Ring(kernel.fd, _SIZE)
    kernel.submit(1, _DISCARD)
    kernel.submit(2)
    assert ring.read()["address"].tolist() == [2]
    assert ring.backlog() == 0


def test_records_that_wrap_are_whole(kernel: _Kernel) -> None:
    ring = Ring(kernel.fd, _SIZE)
    seen = []
    for address in range(500):
        kernel.submit(address)
        if address % 7 == 0:
            seen += ring.read()["address"].tolist()
    seen += ring.read()["address"].tolist()
    assert seen == list(range(500))


def test_a_fence_stands_between_the_loads_and_before_the_store(
    kernel: _Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another processor does up to a fence, the loads after it see."""
    ring = Ring(kernel.fd, _SIZE)
    kernel.submit(1)
    kernel.submit(0, _BUSY)
    kernel.submit(0, _BUSY)
    steps = []
    fence = ring._fence

    def fence_at() -> None:
        fence()
        steps.append(kernel.consumed())
        if len(steps) == 1:  # the position is known, and no header
            kernel.commit(1)
            kernel.submit(4)
        elif len(steps) == 2:  # the headers are known, and no data
            kernel.commit(2)
            kernel.fill(1, 7)

    monkeypatch.setattr(ring, "_fence", fence_at)
    assert ring.read()["address"].tolist() == [1, 7]
    assert steps == [0, 0, 0]
    assert kernel.consumed() == 2 * _RECORD
    monkeypatch.undo()
    assert ring.read()["address"].tolist() == [0, 4]


def test_a_single_record_is_a_copy_too(kernel: _Kernel) -> None:
    ring = Ring(kernel.fd, _SIZE)
    kernel.submit(1)
    events = ring.read()
    kernel.fill(0, 2)
    assert events["address"].tolist() == [1]
    events["length"][0] = 1
    ring.close()
