# SPDX-License-Identifier: GPL-2.0-only
"""Audits during a call that takes longer than they do: its event has not come yet."""

import select
import subprocess

import pytest

from tests.live.attached import attached
from tests.live.script import script
from tracer.follow.session import Session

_BYTES = 2 << 30
_PROGRAM = """
import ctypes, mmap, os, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
address, length = ctypes.c_void_p, ctypes.c_size_t
libc.mmap.argtypes = [address, length, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mremap.argtypes = [address, length, length, ctypes.c_int]
libc.munmap.argtypes = [address, length]
libc.madvise.argtypes = [address, length, ctypes.c_int]
how, size = sys.argv[1], int(sys.argv[2])
private, shared, fixed, populate = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.MAP_SHARED, 0x10, 23
file = os.memfd_create("cut")
os.ftruncate(file, size)
of_file = how == "ftruncate"
start = libc.mmap(None, size, 3, shared if of_file else private, file if of_file else -1, 0)
libc.madvise(start, size, mmap.MADV_NOHUGEPAGE)
if how != "populate":
    libc.madvise(start, size, populate)
calls = {
    "dontneed": lambda: libc.madvise(start, size, mmap.MADV_DONTNEED),
    "populate": lambda: libc.madvise(start, size, populate),
    "munmap": lambda: libc.munmap(start, size),
    "mmap over": lambda: libc.mmap(start, size, 3, private | fixed, -1, 0),
    "mremap": lambda: libc.mremap(start, size, mmap.PAGESIZE, 0),
    "ftruncate": lambda: os.ftruncate(file, 0),
}
print("ready", flush=True)
sys.stdin.readline()
calls[how]()
print("done", flush=True)
sys.stdin.readline()
"""
_TRIES = 5
_DIFFERENCES = ("pte_pages_diff", "empty_missing", "empty_extra", "vmas_diff")
_NO_EVENTS = {"file mapping", "shared file mapping"}
"""Causes of entries that appear without events: the kernel maps cached neighbours of a page."""


def _audit_during_the_call(session: Session, program: "subprocess.Popen[str]") -> int:
    """Let the program make its call; returns how many audits left PTE pages out meanwhile."""
    assert program.stdin
    program.stdin.write("go\n")
    program.stdin.flush()
    assert program.stdout
    incomplete = 0
    while not select.select([program.stdout], [], [], 0)[0]:
        session.pump()
        session.audit()
        incomplete += session.audits.not_compared > 0
    return incomplete


def _check(how: str) -> int:
    """Audit a program during its call; returns how many audits left PTE pages out meanwhile."""
    with script(_PROGRAM, how, str(_BYTES)) as program, attached(program.pid) as session:
        session.audit()
        before = session.audits
        incomplete = _audit_during_the_call(session, program)
        while session.pump():
            pass
        session.audit()
        after = session.audits
    found = {name: getattr(after, name) - getattr(before, name) for name in _DIFFERENCES}
    assert not any(found.values()), found
    assert set(after.causes) <= _NO_EVENTS
    assert after.not_compared == 0
    return incomplete


@pytest.mark.parametrize("how", ["dontneed", "populate", "ftruncate"])
def test_a_call_in_progress_is_no_difference(how: str) -> None:
    # On a busy machine, the call may be over before the audit reads.
    assert any(_check(how) for _ in range(_TRIES))


@pytest.mark.parametrize("how", ["munmap", "mmap over", "mremap"])
def test_nor_is_one_that_holds_the_lock_of_the_mappings(how: str) -> None:
    """An audit may wait for the lock until the call is over."""
    _check(how)
