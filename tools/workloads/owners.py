# SPDX-License-Identifier: GPL-2.0-only
"""Programs of which it is known whose their page tables are: memfd, ASan, prefork workers.

Each says when it is ready, and then waits until it is ended.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ("PREFORK_MIB", "Program", "asan_program", "memfd_user", "prefork_server")

PREFORK_MIB = 64
"""What all workers of the prefork server share."""
_PYTHON = Path("/usr/bin/python3")
_MEMFD = """
import mmap, os, sys
place = os.memfd_create("cache")
os.ftruncate(place, 48 << 20)
whole = mmap.mmap(place, 48 << 20)
for at in range(0, 48 << 20, 4096):
    whole[at] = 1
# A second look at a part of it, and one page in each 2 MiB of another memfd.
part = mmap.mmap(place, 8 << 20, offset=16 << 20)
part[0] = 1
other = os.memfd_create("index")
os.ftruncate(other, 64 << 20)
sparse = mmap.mmap(other, 64 << 20)
for at in range(0, 64 << 20, 2 << 20):
    sparse[at] = 1
"""
_PREFORK = """
import ctypes, mmap, os, signal, sys
workers, mib = int(sys.argv[1]), int(sys.argv[2])
shared = mmap.mmap(-1, mib << 20)  # MAP_SHARED
for at in range(0, mib << 20, 4096):
    shared[at] = 1
for _ in range(workers):
    ready, done = os.pipe()
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        for at in range(0, mib << 20, 4096):
            shared[at]
        own = mmap.mmap(-1, 24 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        own.madvise(mmap.MADV_NOHUGEPAGE)
        for at in range(0, 24 << 20, 4096):
            own[at] = 1
        for at in range(0, 24 << 20, 1 << 20):  # halves: no PTE page goes
            own.madvise(mmap.MADV_DONTNEED, at, 1 << 20)
        os.write(done, b"x")
        signal.pause()
    os.read(ready, 1)
"""
_WAIT = """
print("ready", flush=True)
sys.stdin.read()
"""
_ASAN = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void) {
    for (int i = 0; i < 4000; i++) {
        char *place = malloc(1 << (i % 16));
        memset(place, 1, 1 << (i % 16));
    }
    puts("ready");
    fflush(stdout);
    return getchar() == 1;
}
"""


@dataclass(frozen=True)
class Program:
    """A program that is ready; `workers` are those that it has forked."""

    pid: int
    workers: tuple[int, ...] = ()


@contextmanager
def _ready(command: list[str]) -> Iterator[int]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout
        try:
            if program.stdout.readline() != b"ready\n":
                raise RuntimeError(f"{command[0]} did not come up")
            yield program.pid
        finally:
            program.kill()


@contextmanager
def memfd_user() -> Iterator[Program]:
    """48 MiB of one memfd in full, and of another one page in each 2 MiB."""
    with _ready([str(_PYTHON), "-c", _MEMFD + _WAIT]) as pid:
        yield Program(pid)


@contextmanager
def asan_program() -> Iterator[Program]:
    """A program with AddressSanitizer that has allocated objects of many sizes.

    Raises:
        RuntimeError: gcc cannot make it.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "sanitized"
        command = ["gcc", "-O1", "-fsanitize=address", "-x", "c", "-", "-o", str(program)]
        made = subprocess.run(command, input=_ASAN, text=True, capture_output=True, check=False)
        if made.returncode:
            raise RuntimeError(f"gcc -fsanitize=address does not work: {made.stderr}")
        with _ready([str(program)]) as pid:
            yield Program(pid)


@contextmanager
def prefork_server(workers: int, name: str = "prefork") -> Iterator[Program]:
    """A parent and so many workers, which read what it has written, and leave PTE pages empty.

    Args:
        workers: how many.
        name: by which all of them go.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / name
        program.symlink_to(_PYTHON)
        command = [str(program), "-c", _PREFORK + _WAIT, str(workers), str(PREFORK_MIB)]
        with _ready(command) as pid:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            yield Program(pid, tuple(map(int, children)))
