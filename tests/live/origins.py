# SPDX-License-Identifier: GPL-2.0-only
"""A script that makes and empties PTE pages with known calls of named threads.

It prints the first address of its memory. It then waits for a line of input before each step, so
that a test can compare every step with what ptescope reports.
"""

import ctypes
import mmap
import os
import sys
import threading
from collections.abc import Callable

PAGE, SLOT = 4096, 2 << 20
FIRST_SLOTS = {
    "whole-slots": 0,  # 3 slots: MADV_DONTNEED of 1 MiB twice
    "small-purges": 3,  # 5 slots: MADV_DONTNEED of 64 KiB
    "unmapper": 8,  # 4 slots: munmap of all but the last page
    "mover": 12,  # 1 slot: mremap of its only page
    "puncher": 13,  # 2 slots of a memfd: fallocate(PUNCH_HOLE)
    "end": 15,
}
_PR_SET_NAME = 15
_MREMAP_MAYMOVE = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = _LIBC.mremap.restype = ctypes.c_void_p


def _at(address: int, length: int) -> tuple[ctypes.c_void_p, ctypes.c_size_t]:
    return ctypes.c_void_p(address), ctypes.c_size_t(length)


def _madvise(address: int, length: int, advice: int) -> None:
    assert _LIBC.madvise(*_at(address, length), advice) == 0


def _slots(base: int, name: str) -> range:
    names = list(FIRST_SLOTS)
    first, end = FIRST_SLOTS[name], FIRST_SLOTS[names[names.index(name) + 1]]
    return range(base + first * SLOT, base + end * SLOT, SLOT)


def _map(base: int) -> int:
    """Map private anonymous memory without huge pages, and a memfd in the slots of the puncher."""
    size = FIRST_SLOTS["end"] * SLOT
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100000  # MAP_FIXED_NOREPLACE
    prot = mmap.PROT_READ | mmap.PROT_WRITE
    assert _LIBC.mmap(*_at(base, size), prot, flags, -1, ctypes.c_long(0)) == base
    _madvise(base, size, mmap.MADV_NOHUGEPAGE)
    shared, file = _slots(base, "puncher"), os.memfd_create("origins")
    os.ftruncate(file, len(shared) * SLOT)
    where = _at(shared[0], len(shared) * SLOT)
    assert _LIBC.mmap(*where, prot, mmap.MAP_SHARED | 0x10, file, ctypes.c_long(0)) == shared[0]
    return file


def _fill(base: int) -> None:
    for slot in range(base, base + FIRST_SLOTS["end"] * SLOT, SLOT):
        ctypes.memset(slot, 1, 1)


def _whole_slots(base: int) -> None:
    for slot in _slots(base, "whole-slots"):
        _madvise(slot + SLOT // 2, SLOT // 2, mmap.MADV_DONTNEED)
        _madvise(slot, SLOT // 2, mmap.MADV_DONTNEED)


def _small_purges(base: int) -> None:
    for slot in _slots(base, "small-purges"):
        _madvise(slot, 16 * PAGE, mmap.MADV_DONTNEED)


def _unmapper(base: int) -> None:
    for slot in _slots(base, "unmapper"):
        assert _LIBC.munmap(*_at(slot, SLOT - PAGE)) == 0


def _mover(base: int) -> None:
    for slot in _slots(base, "mover"):
        moved = _LIBC.mremap(*_at(slot, PAGE), ctypes.c_size_t(PAGE), _MREMAP_MAYMOVE | 2,
                             ctypes.c_void_p(base - SLOT))  # fmt: skip
        assert moved == base - SLOT


def _in_thread(name: str, act: Callable[[], None]) -> None:
    """Run `act` in a thread with this name, and wait for the thread to end."""

    def run() -> None:
        _LIBC.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)
        sys.stdin.readline()
        act()
        print(name, flush=True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def main() -> None:
    """Map, fill and empty memory: one step for each line of input."""
    base = 0x1000_0000_0000
    file = _map(base)
    print(base, flush=True)
    _in_thread("filler", lambda: _fill(base))
    _in_thread("whole-slots", lambda: _whole_slots(base))
    _in_thread("small-purges", lambda: _small_purges(base))
    _in_thread("unmapper", lambda: _unmapper(base))
    _in_thread("mover", lambda: _mover(base))
    hole = ctypes.c_long(0), ctypes.c_long(len(_slots(base, "puncher")) * SLOT)
    _in_thread("puncher", lambda: _LIBC.fallocate(file, 3, *hole))
    sys.stdin.readline()


if __name__ == "__main__":
    main()
