# SPDX-License-Identifier: GPL-2.0-only
"""The cause of entries that appear without a fault is the open file that makes them."""

import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.live.attached import attached
from tests.live.script import script
from tracer.follow.causes import clues_of

_COMMON = """
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
SIZE = 64 << 20
area = mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area.madvise(mmap.MADV_NOHUGEPAGE)
start = ctypes.addressof(ctypes.c_char.from_buffer(area))
def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    assert result >= 0, (number, ctypes.get_errno())
    return result
def ready():
    print("ready", flush=True)
    sys.stdin.readline()
"""
_IO_URING = """
parameters = ctypes.create_string_buffer(120)
ring = call(425, 4, ctypes.addressof(parameters))
vector = (ctypes.c_ulong * 2)(start, SIZE)
ready()
call(427, ring, 0, ctypes.addressof(vector), 1)  # IORING_REGISTER_BUFFERS
"""
_DIRECT = """
file = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
{before}
ready()
{after}
"""
_READ = "os.preadv(file, [memoryview(area)[:16 << 20]], 0)"
_CLOSED = _DIRECT.format(before="", after=_READ + "; os.close(file)")
_USERFAULTFD = """
import struct
UFFDIO_API, UFFDIO_REGISTER, UFFDIO_ZEROPAGE = 0xC018AA3F, 0xC020AA00, 0xC020AA04
import fcntl
uffd = call(323, os.O_CLOEXEC | 1)  # UFFD_USER_MODE_ONLY
fcntl.ioctl(uffd, UFFDIO_API, struct.pack("<QQQ", 0xAA, 0, 0))
fcntl.ioctl(uffd, UFFDIO_REGISTER, struct.pack("<QQQQ", start, SIZE, 1, 0))
ready()
fcntl.ioctl(uffd, UFFDIO_ZEROPAGE, struct.pack("<QQQq", start, 16 << 20, 0, 0))
"""


def _program(code: str, *arguments: str) -> AbstractContextManager["subprocess.Popen[str]"]:
    """A program that waits for a line before it acts."""
    end = '\nprint("done", flush=True)\nsys.stdin.readline()\n'
    return script(_COMMON + code + end, *arguments)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file of 16 MiB on a file system that supports O_DIRECT."""
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * (64 << 10))
    return path


@pytest.mark.parametrize(
    ("cause", "script"),
    [
        ("io_uring", _IO_URING),
        ("direct I/O", _DIRECT.format(before="", after=_READ)),
        ("direct I/O", _CLOSED),
        ("userfaultfd", _USERFAULTFD),
    ],
    ids=["io_uring", "direct", "direct and closed", "userfaultfd"],
)
def test_the_cause_of_entries_without_a_fault_is_the_open_file_that_makes_them(
    cause: str, script: str, data: Path
) -> None:
    subprocess.run(["sync", str(data)], check=True)
    with _program(script, str(data)) as program, attached(program.pid) as session:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            session.pump()
        before = session.pte_pages
        assert program.stdin
        assert program.stdout
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "done\n"
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            session.pump()
            time.sleep(0.01)
        assert session.pte_pages >= before + 7
        if session.audits.refs_diff > 64:  # without a function event
            assert "unknown" not in session.audits.causes
            assert session.audits.causes[cause] >= 4096


def test_the_cause_is_unknown_without_such_an_open_file() -> None:
    with _program("ready()") as program:
        clues = clues_of(program.pid)
    assert clues.files == frozenset()
    assert len(clues.registered[0]) == 0
