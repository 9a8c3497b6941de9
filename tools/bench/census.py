# SPDX-License-Identifier: GPL-2.0-only
"""The speed and memory of a census: python -m tools.bench.census [SLOTS] [ROUNDS].

It alternately reads a process with one touched page in each of SLOTS slots, and copies the same
number of bytes between arrays. The output has medians of the rounds, their ratio, and the peak
memory of this process after the first reading.
"""

import resource
import statistics
import subprocess
import sys
import time

import numpy as np

from tracer.census import open_reader
from tracer.kernel import kernel_facts
from tracer.process.target import open_target

_PAGE = 4096
_BUFFER = 1 << 20
"""Bytes copied at a time, the same as in the page reader."""
_SOURCE = 1 << 30
_BAR = 7


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


class _Copy:
    """A plain copy of many bytes, from a source larger than any cache."""

    def __init__(self) -> None:
        self._source = np.ones(_SOURCE, np.uint8)
        self._target = np.empty(_BUFFER, np.uint8)

    def seconds(self, pages: int) -> float:
        begin = time.monotonic()
        for i in range(pages * _PAGE // _BUFFER):
            at = i * _BUFFER % _SOURCE
            self._target[:] = self._source[at : at + _BUFFER]
        return time.monotonic() - begin


def main() -> None:
    """Measure and print."""
    slots = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    program = subprocess.Popen(
        [sys.executable, "-m", "tools.workloads.sparse", str(slots)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout
        program.stdout.readline()
        target = open_target(program.pid)
        reader = open_reader(kernel_facts().geometry)
        found, peak = reader.census(target), _peak_mib()
        census, copy, plain = [], [], _Copy()
        for _ in range(rounds):
            begin = time.monotonic()
            found = reader.census(target)
            census.append(time.monotonic() - begin)
            copy.append(plain.seconds(found.pte_pages))
        reader.close()
    finally:
        program.kill()
        program.communicate()
    ratio = statistics.median(a / b for a, b in zip(census, copy, strict=True))
    print(f"{found.pte_pages:,} PTE pages ({reader.why}), {rounds} alternating rounds")
    print(f"  sum of tables {found.sum_kib:,} KiB, VmPTE {found.vm_pte_kib:,} kB")
    print(
        f"  census        {statistics.median(census):.2f} s (max {max(census):.2f}), "
        f"{found.pte_pages / statistics.median(census):,.0f} PTE pages/s"
    )
    print(
        f"  plain copy    {statistics.median(copy):.2f} s: "
        f"the census takes {ratio:.1f} x (bar: {_BAR})"
    )
    print(f"  peak memory   {peak} MiB")


if __name__ == "__main__":
    main()
