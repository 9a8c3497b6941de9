# SPDX-License-Identifier: GPL-2.0-only
"""A process whose page tables others change, so that no event of its own reports it."""

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ("SLOTS", "Victim", "victim")

SLOTS = 64
"""Of the file that it maps."""
_SLOT = 2 << 20
_SCRIPT = """
import mmap, os, sys, time
open("/proc/self/comm", "w").write("drift-victim")
path, slots, busy = sys.argv[1], *map(int, sys.argv[2:])
with open(path, "r+b") as file:
    area = mmap.mmap(file.fileno(), slots << 21, mmap.MAP_SHARED)
other = mmap.mmap(-1, 1 << 22, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
import ctypes
print(ctypes.addressof(ctypes.c_char.from_buffer(area)), flush=True)
while True:
    time.sleep(0.02 if busy else 60)
    for page in range(0, 1 << 20, 4096):
        other[page] = 1
    other.madvise(mmap.MADV_DONTNEED)
"""


@dataclass
class Victim:
    """A process that is changed from outside."""

    pid: int
    address: int
    path: Path

    def populate(self, slots: range, pages: int = 1) -> None:
        """Write into its memory, a page or more in each of these slots."""
        memory = os.open(f"/proc/{self.pid}/mem", os.O_WRONLY)
        for slot in slots:
            for page in range(pages):
                os.pwrite(memory, b"x", self.address + slot * _SLOT + page * 4096)
        os.close(memory)

    def empty(self) -> None:
        """Take all pages of the file away, by MADV_REMOVE on a mapping of our own."""
        with self.path.open("r+b") as file, mmap.mmap(file.fileno(), SLOTS * _SLOT) as area:
            area.madvise(mmap.MADV_REMOVE)


@contextmanager
def victim(*, busy: bool) -> Iterator[Victim]:
    """It maps a shared file, and sleeps or faults and purges elsewhere all the time."""
    path = Path("/dev/shm") / f"ptescope-drift-{os.getpid()}"
    path.write_bytes(b"")
    os.truncate(path, SLOTS * _SLOT)
    child = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(path), str(SLOTS), str(int(busy))],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout
        yield Victim(child.pid, int(child.stdout.readline()), path)
    finally:
        child.kill()
        child.communicate()
        path.unlink()
