# SPDX-License-Identifier: GPL-2.0-only
"""Touches of memory that may not be mapped, by one thread or by several that also release it."""

import ctypes
import os
import random
import threading
from collections.abc import Callable, Mapping

from tracer.page_size import PAGE

__all__ = ("SAFE_TOUCHES",)

_DONTNEED = 4
_ROUNDS = 6
_libc = ctypes.CDLL(None, use_errno=True)
_libc.read.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def _touch(start: int, length: int, step: int) -> int:
    """Have the kernel write a byte per `step`: EFAULT instead of a signal where it may not."""
    zeros = os.open("/dev/zero", os.O_RDONLY)
    done: int = sum(_libc.read(zeros, at, 1) == 1 for at in range(start, start + length, step))
    os.close(zeros)
    return done


def _race(start: int, length: int, threads: int, seed: int) -> int:
    """Threads that touch and release their own part of the range, in pieces of random sizes."""
    pages = length // PAGE // threads

    def work(part: int) -> None:
        chance = random.Random(seed + part)
        first = start + part * pages * PAGE
        for _ in range(_ROUNDS):
            at, size = chance.randrange(pages), chance.choice((1, 9, 256))
            size = min(size, pages - at)
            _touch(first + at * PAGE, size * PAGE, chance.choice((PAGE, 4 * PAGE)))
            _libc.madvise(first + at * PAGE, size * PAGE, _DONTNEED)
        if chance.random() < 0.5:
            _libc.madvise(first, pages * PAGE, _DONTNEED)

    workers = [threading.Thread(target=work, args=(part,)) for part in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return 0


SAFE_TOUCHES: Mapping[str, Callable[..., int]] = {"safe_touch": _touch, "race": _race}
"""Actions by name."""
