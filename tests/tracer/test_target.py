# SPDX-License-Identifier: GPL-2.0-only
"""Which processes can be followed, and the errors for the others."""

import os
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shadow.errors import NoSuchTargetError, UsageError
from shadow.table.vma import VmaFlag
from tracer.process.find import find_by_name
from tracer.process.target import open_target


def _elf32_that_pauses() -> bytes:
    """A static i386 program that calls pause() in a loop."""
    code = bytes.fromhex("b81d000000 cd80 ebf7")  # mov eax, 29; int 0x80; jmp back
    base, headers = 0x08048000, 52 + 32
    size = headers + len(code)
    head = b"\x7fELF" + bytes([1, 1, 1]) + bytes(9)
    head += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, base + headers, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return head + struct.pack("<8I", 1, 0, base, base, size, size, 5, 4096) + code


def test_a_32_bit_program(tmp_path: Path) -> None:
    program = tmp_path / "pause32"
    program.write_bytes(_elf32_that_pauses())
    program.chmod(0o700)
    child = subprocess.Popen([str(program)])
    try:
        with pytest.raises(UsageError, match="32-bit"):
            open_target(child.pid)
    finally:
        child.kill()
        child.wait()


def test_this_process_and_its_vmas() -> None:
    target = open_target(os.getpid())
    vmas = target.vmas()
    assert target.alive()
    assert (vmas["start"][1:] >= vmas["end"][:-1]).all()
    assert (vmas["flags"] & VmaFlag.GROWSDOWN != 0).sum() == 1
    lines = Path("/proc/self/maps").read_text().splitlines()
    assert abs(len(vmas) - len(lines)) <= 2  # [vsyscall] is not part of the process


def test_no_such_process() -> None:
    with pytest.raises(NoSuchTargetError, match="no process 4194305"):
        open_target(4194305)


def test_a_kernel_thread() -> None:
    kernel_threads = [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and _is_kernel_thread(path)
    ]
    if not kernel_threads:
        pytest.skip("no kernel thread is visible in this pid namespace")
    with pytest.raises(UsageError, match="kernel thread"):
        open_target(kernel_threads[0])


def _is_kernel_thread(path: Path) -> bool:
    try:
        return (path / "stat").read_text().rpartition(")")[2].split()[1] == "2"
    except OSError:
        return False


@contextmanager
def _zombie() -> Iterator[int]:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    yield child.pid
    child.wait()


def test_a_zombie() -> None:
    with _zombie() as pid, pytest.raises(NoSuchTargetError, match="zombie"):
        open_target(pid)


def test_the_error_for_a_thread_names_its_process() -> None:
    tids: list[int] = []
    done = threading.Event()

    def work() -> None:
        tids.append(threading.get_native_id())
        done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        with pytest.raises(UsageError, match=f"-p {os.getpid()}"):
            open_target(tids[0])
    finally:
        done.set()
        thread.join()


def test_a_name_without_a_process() -> None:
    with pytest.raises(NoSuchTargetError, match="no process named"):
        find_by_name("no-such-program")


def test_a_name_of_two_processes() -> None:
    children = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    try:
        with pytest.raises(UsageError, match="choose one with -p"):
            find_by_name("sleep")
    finally:
        for child in children:
            child.kill()
            child.wait()
