# SPDX-License-Identifier: GPL-2.0-only
"""A child process that changes its page tables on command.

As a program, it reads one action per line from stdin, makes the system calls with the given
arguments, and prints each result.
"""

import ctypes
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from shadow.call_rules import CALLS
from shadow.geometry import geometry_of_page
from tests.live.rare_calls import RARE_CALLS
from tests.live.safe_touch import SAFE_TOUCHES
from tracer.arch import running
from tracer.page_size import PAGE

__all__ = ("SLOT", "Actor")

SLOT = geometry_of_page(PAGE).slot
"""The size of a slot here."""
_MAP_FIXED = 0x10
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _call(name: str, *arguments: int) -> int:
    result: int = _libc.syscall(
        ctypes.c_long(running().calls[name]), *(ctypes.c_ulong(argument) for argument in arguments)
    )
    return result if result != -1 else -ctypes.get_errno()


def _touch(start: int, length: int, step: int) -> int:
    for address in range(start, start + length, step):
        ctypes.c_ubyte.from_address(address).value = 1
    return 0


def _read(start: int, length: int, step: int) -> int:
    return sum(
        ctypes.c_ubyte.from_address(address).value for address in range(start, start + length, step)
    )


def _advise_many(advice: int, *ranges: int) -> int:
    """process_madvise on itself; `ranges` are starts and lengths in turn."""
    pidfd = os.pidfd_open(os.getpid())
    vectors = (ctypes.c_ulong * len(ranges))(*ranges)
    result = _call("process_madvise", pidfd, ctypes.addressof(vectors), len(ranges) // 2, advice, 0)
    os.close(pidfd)
    return result


def _map_file(address: int, length: int, prot: int) -> int:
    """Map a new, unlinked file privately."""
    with tempfile.TemporaryFile() as file:
        file.truncate(length)
        flags = mmap.MAP_PRIVATE | _MAP_FIXED
        return _call("mmap", address, length, prot, flags, file.fileno(), 0)


def _fork() -> int:
    """Fork a child that waits until the pipe of its parent closes."""
    child = os.fork()
    if child == 0:
        signal.pause()
    return child


def _main() -> None:
    calls: dict[str, Callable[..., int]] = {
        "fork": _fork,
        "process_madvise": _advise_many,
        "map_file": _map_file,
        **{name: partial(_call, name) for name in CALLS},
        **RARE_CALLS,
        **SAFE_TOUCHES,
        "touch": _touch,
        "read": _read,
        "exec": lambda seconds: os.execv("/bin/sleep", ["sleep", str(seconds)]),
    }
    for line in sys.stdin:
        name, *numbers = line.split()
        print(calls[name](*map(int, numbers)), flush=True)


class Actor:
    """The test's side of the child.

    Each method returns the system call's result, or minus its errno.

    Args:
        main_thread_ends: whether the main thread ends and another thread does the work.
    """

    def __init__(self, *, main_thread_ends: bool = False) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.live.actor"),
                *["main-thread-ends"] * main_thread_ends,
            ],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self.do("munmap", PAGE, 0)  # an answer shows that it is ready

    def begin(self, name: str, *numbers: int) -> None:
        """Start an action that gives no answer."""
        assert self._process.stdin
        self._process.stdin.write(" ".join([name, *map(str, numbers)]) + "\n")
        self._process.stdin.flush()

    def do(self, name: str, *numbers: int) -> int:
        """Do one action; returns its result."""
        assert self._process.stdout
        self.begin(name, *numbers)
        return int(self._process.stdout.readline())

    def map(
        self,
        address: int,
        length: int,
        prot: int = mmap.PROT_READ | mmap.PROT_WRITE,
        flags: int = mmap.MAP_PRIVATE,
        *,
        fixed: bool = True,
    ) -> int:
        """Map anonymous memory in place of any existing mapping."""
        flags |= mmap.MAP_ANONYMOUS | (_MAP_FIXED if fixed else 0)
        return self.do("mmap", address, length, prot, flags, 2**64 - 1, 0)

    def touch(self, address: int, length: int, step: int = PAGE) -> None:
        """Write one byte per `step`."""
        self.do("touch", address, length, step)

    def read(self, address: int, length: int, step: int = PAGE) -> None:
        """Read one byte per `step`."""
        self.do("read", address, length, step)

    def advise(self, address: int, length: int, advice: int) -> int:
        """Call madvise."""
        return self.do("madvise", address, length, advice)

    def close(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.communicate()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        threading.Thread(target=_main).start()
        _libc.pthread_exit(None)
    _main()
