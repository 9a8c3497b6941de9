# SPDX-License-Identifier: GPL-2.0-only
"""The counters of the remedy for jemalloc come from the process, which may write anything."""

import subprocess
import sys

import pytest

from tracer.allocator.remedy import find_remedy


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PTEREMDY",
        b"PTEREMDY" + b"\xff" * 4088,
        b"PTEREMDX" + bytes([1, 0, 0, 0, 88, 0, 0, 0, 1, 0, 0, 0, 1]) + bytes(100),
        b"PTEREMDY" + bytes([1, 0, 0, 0, 88, 0, 0, 0, 1, 0, 0, 0, 99]) + bytes(100),
        b"PTEREMDY" + bytes([1, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 1]) + bytes(100),
    ],
)
def test_counters_that_the_remedy_cannot_have_written_are_ignored(content: bytes) -> None:
    script = (
        "import mmap, os, sys\n"
        "file = os.memfd_create('ptescope-remedy')\n"
        "os.ftruncate(file, 4096)\n"
        f"os.pwrite(file, {content!r}, 0)\n"
        "page = mmap.mmap(file, 4096)\n"
        "print(1, flush=True)\n"
        "sys.stdin.read()"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout
        assert program.stdout.readline() == "1\n"
        assert find_remedy(program.pid) is None
    finally:
        program.kill()
        program.communicate()
