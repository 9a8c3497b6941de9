# SPDX-License-Identifier: GPL-2.0-only
"""Every call that changes page tables or VMAs, other than mmap and madvise, is followed.

After each act the shadow must equal a reading of the page tables. If an event shows only that
something has changed, the shadow must be equal after the immediate new reading.
"""

import ctypes
import mmap
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from shadow.table.counters import Counter
from tests.live.actor import SLOT, Actor
from tests.live.attached import Attacher, watching
from tracer.follow.session import Session

_BASE, _PAGE = 0x10_0000_0000, 4096
_LOW = 0x2000_0000
"""An address below 4 GiB, for 32-bit calls."""
_SLOTS = 4
_LENGTH = _SLOTS * SLOT
_RW, _SHARED, _FIXED, _NO_FD = 3, 1, 0x10, 2**64 - 1
_DONTNEED, _DONTDUMP, _DODUMP, _RANDOM, _NORMAL, _MERGEABLE = 4, 16, 17, 1, 0, 12
_PAGEOUT, _WIPEONFORK, _DROPPABLE = 21, 18, 8
_BIND = 2
_MMAP, _SHMGET, _SHMAT, _SHMCTL, _SHMDT, _FTRUNCATE, _FALLOCATE = 9, 29, 30, 31, 67, 77, 285
_IO_DESTROY, _REMAP_FILE_PAGES, _PRCTL, _MSEAL, _COPY_RANGE = 207, 216, 157, 462, 326
_PROCESS_MADVISE, _PIDFD_OPEN, _PROCESS_VM_WRITEV = 440, 434, 311
_PUNCH_HOLE, _COLLAPSE_RANGE = 1 | 2, 8
_MISSING, _WP, _MINOR = 1, 2, 4
_SHMEM, _WP_UNPOPULATED, _MINOR_SHMEM, _POISON, _MOVE = 1 << 5, 1 << 13, 1 << 10, 1 << 14, 1 << 16
_UFFDIO = {
    "unregister": 0x8010AA01,
    "copy": 0xC028AA03,
    "zeropage": 0xC020AA04,
    "move": 0xC028AA05,
    "writeprotect": 0xC018AA06,
    "continue": 0xC020AA07,
    "poison": 0xC020AA08,
}
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Act:
    """One action of a process, or on it.

    Attributes:
        name: name of the test.
        act: the function that acts.
        by_events: whether events alone show the effect; else a reading follows.
    """

    name: str
    act: Callable[[Actor], object]
    by_events: bool = True


def _mapped(actor: Actor, fd: int, length: int = _LENGTH, flags: int = _SHARED) -> None:
    assert actor.do("mmap", _BASE, length, _RW, flags | _FIXED, fd, 0) == _BASE


def _anonymous(actor: Actor, at: int = _BASE, *, touched: bool = True) -> None:
    actor.map(at, _LENGTH)
    actor.advise(at, _LENGTH, mmap.MADV_NOHUGEPAGE)
    if touched:
        actor.touch(at, _LENGTH)


def _cut(how: str, *numbers: int) -> Callable[[Actor], None]:
    """An act that maps and touches a file, then cuts it; `numbers` follow its descriptor."""

    def act(actor: Actor) -> None:
        fd = actor.do("memfd", _LENGTH)
        _mapped(actor, fd)
        actor.touch(_BASE, _LENGTH)
        if how == "call":
            assert actor.do("call", numbers[0], fd, *numbers[1:]) == 0
        else:
            assert actor.do(how, fd, *numbers) >= 0

    return act


def _cut_private(actor: Actor) -> None:
    fd = actor.do("file", _LENGTH)
    _mapped(actor, fd, flags=2)
    actor.touch(_BASE, _LENGTH)
    assert actor.do("call", _FTRUNCATE, fd, SLOT) == 0


def _cut_by_another(actor: Actor) -> None:
    fd = actor.do("memfd", _LENGTH)
    _mapped(actor, fd)
    actor.touch(_BASE, _LENGTH)
    with open(f"/proc/{actor.pid}/fd/{fd}", "r+b") as file:
        file.truncate(SLOT)


def _hole_by_another(actor: Actor) -> None:
    fd = actor.do("memfd", _LENGTH)
    _mapped(actor, fd)
    actor.touch(_BASE, _LENGTH)
    with open(f"/proc/{actor.pid}/fd/{fd}", "r+b") as file:
        assert (
            _libc.fallocate(file.fileno(), _PUNCH_HOLE, ctypes.c_long(SLOT), ctypes.c_long(SLOT))
            == 0
        )


def _mapped_twice(actor: Actor) -> None:
    """A hole removes pages from both mappings of the file, which have different offsets."""
    fd = actor.do("memfd", _LENGTH)
    _mapped(actor, fd)
    second = _BASE + 64 * SLOT
    actor.do("mmap", second, 2 * SLOT, _RW, _SHARED | _FIXED, fd, SLOT)
    actor.touch(_BASE, _LENGTH)
    actor.touch(second, 2 * SLOT)
    assert actor.do("call", _FALLOCATE, fd, _PUNCH_HOLE, SLOT + _PAGE, SLOT) == 0


def _shm(actor: Actor, at: int = _BASE) -> int:
    segment = actor.do("call", _SHMGET, 0, _LENGTH, 0o1600)
    assert actor.do("call", _SHMAT, segment, at, 0) == at
    actor.do("call", _SHMCTL, segment, 0, 0)
    return segment


def _shmat(actor: Actor) -> None:
    _shm(actor)
    actor.touch(_BASE, _LENGTH)
    actor.advise(_BASE, _LENGTH, _DONTNEED)


def _shmdt(actor: Actor) -> None:
    _shm(actor)
    actor.touch(_BASE, _LENGTH)
    assert actor.do("call", _SHMDT, _BASE) == 0


def _shmdt_in_parts(actor: Actor) -> None:
    _shm(actor)
    actor.touch(_BASE, _LENGTH)
    actor.do("mprotect", _BASE + SLOT, _PAGE, 1)
    actor.do("munmap", _BASE + 2 * SLOT, _PAGE)
    assert actor.do("call", _SHMDT, _BASE) == 0


def _split(split: Callable[[Actor, int, int], int]) -> Callable[[Actor], None]:
    """An act that changes a page in the middle of the second slot, and purges all.

    If the kernel or the CPU refuses the call, nothing may change.
    """

    def act(actor: Actor) -> None:
        _anonymous(actor)
        split(actor, _BASE + SLOT + SLOT // 2, _PAGE)
        actor.advise(_BASE, _LENGTH, _DONTNEED)

    return act


def _and_back(
    there: Callable[[Actor, int, int], int], back: Callable[[Actor, int, int], int]
) -> Callable[[Actor], None]:
    """As `_split`, but the act reverts the change before it purges all."""

    def act(actor: Actor) -> None:
        _anonymous(actor)
        there(actor, _BASE + SLOT + SLOT // 2, _PAGE)
        back(actor, _BASE + SLOT + SLOT // 2, _PAGE)
        actor.advise(_BASE, _LENGTH, _DONTNEED)

    return act


def _advice(advice: int) -> Callable[[Actor, int, int], int]:
    return lambda actor, at, length: actor.advise(at, length, advice)


def _policy(mode: int) -> Callable[[Actor, int, int], int]:
    return lambda actor, at, length: actor.do("mbind", at, length, mode)


def _name(number: int) -> Callable[[Actor, int, int], int]:
    return lambda actor, at, length: actor.do("name", at, length, number)


def _seal(actor: Actor, at: int, length: int) -> int:
    return actor.do("call", _MSEAL, at, length, 0)


def _registered(actor: Actor, modes: int, features: int, *, shared: bool = False) -> int:
    if shared:
        fd = actor.do("memfd", _LENGTH)
        _mapped(actor, fd)
        second = _BASE + 64 * SLOT
        actor.do("mmap", second, _LENGTH, _RW, _SHARED | _FIXED, fd, 0)
        actor.touch(second, _LENGTH)
    else:
        _anonymous(actor, touched=False)
    uffd = actor.do("uffd", _BASE, _LENGTH, modes, features)
    if uffd < 0:
        pytest.skip(f"this kernel refuses it: {os.strerror(-uffd)}")
    return uffd


def _source(actor: Actor) -> int:
    at = _BASE + 128 * SLOT
    actor.map(at, _LENGTH)
    actor.touch(at, _LENGTH)
    return at


def _uffd_copies(actor: Actor) -> None:
    uffd, source = _registered(actor, _MISSING, 0), _source(actor)
    actor.do("ioctl", uffd, _UFFDIO["copy"], _BASE, source, SLOT + 5 * _PAGE, 0)


def _uffd_copies_in_part(actor: Actor) -> None:
    """The second copy stops at an existing page."""
    uffd, source = _registered(actor, _MISSING, 0), _source(actor)
    actor.do("ioctl", uffd, _UFFDIO["copy"], _BASE + 9 * _PAGE, source, _PAGE, 0)
    assert actor.do("ioctl", uffd, _UFFDIO["copy"], _BASE, source, SLOT, 0) < 0


def _uffd_zeroes(actor: Actor) -> None:
    uffd = _registered(actor, _MISSING, 0)
    assert actor.do("ioctl", uffd, _UFFDIO["zeropage"], _BASE + SLOT, SLOT, 0) == 0


def _uffd_moves(actor: Actor) -> None:
    uffd, source = _registered(actor, _MISSING, _MOVE), _source(actor)
    actor.do("ioctl", uffd, _UFFDIO["move"], _BASE, source, SLOT + 3 * _PAGE, 0)


def _uffd_continues(actor: Actor) -> None:
    uffd = _registered(actor, _MINOR, _MINOR_SHMEM, shared=True)
    assert actor.do("ioctl", uffd, _UFFDIO["continue"], _BASE, SLOT + _PAGE, 0) == 0


def _uffd_poisons(actor: Actor) -> None:
    uffd = _registered(actor, _MISSING, _POISON)
    assert actor.do("ioctl", uffd, _UFFDIO["poison"], _BASE, 7 * _PAGE, 0) == 0


def _uffd_protects(actor: Actor) -> None:
    uffd = _registered(actor, _WP, _WP_UNPOPULATED)
    assert actor.do("ioctl", uffd, _UFFDIO["writeprotect"], _BASE, SLOT, 1) == 0


def _uffd_splits(actor: Actor) -> None:
    _anonymous(actor)
    uffd = actor.do("uffd", _BASE + SLOT // 2, SLOT, _MISSING, 0)
    actor.advise(_BASE, 2 * SLOT, _DONTNEED)
    actor.touch(_BASE + 3 * SLOT, _PAGE)
    actor.do("ioctl", uffd, _UFFDIO["unregister"], _BASE + SLOT // 2, SLOT)
    actor.advise(_BASE, 2 * SLOT, _DONTNEED)


def _pins(name: str) -> Callable[[Actor], None]:
    def act(actor: Actor) -> None:
        _anonymous(actor, touched=False)
        result = actor.do(name, _BASE + SLOT - 4 * _PAGE, 8 * _PAGE)
        if result == -22:
            pytest.skip("this file system does not support O_DIRECT")
        assert result == 8 * _PAGE

    return act


def _written_from_outside(actor: Actor) -> None:
    _anonymous(actor, touched=False)
    data = ctypes.create_string_buffer(SLOT)
    here = (ctypes.c_ulong * 2)(ctypes.addressof(data), SLOT)
    there = (ctypes.c_ulong * 4)(_BASE + 100, SLOT // 2, _BASE + 2 * SLOT, SLOT // 2)
    one, two, no_flags = (ctypes.c_ulong(number) for number in (1, 2, 0))
    written = _libc.syscall(_PROCESS_VM_WRITEV, actor.pid, here, one, there, two, no_flags)
    assert written == SLOT


def _paged_out_from_outside(actor: Actor) -> None:
    _anonymous(actor)
    actor.advise(_BASE, _LENGTH, 8)
    pidfd = os.pidfd_open(actor.pid)
    vector = (ctypes.c_ulong * 2)(_BASE, _LENGTH)
    done = _libc.syscall(_PROCESS_MADVISE, pidfd, vector, ctypes.c_ulong(1), _PAGEOUT, 0)
    os.close(pidfd)
    assert done == _LENGTH


def _aio(actor: Actor) -> None:
    ring = actor.do("io_setup", 500)
    assert ring > 0
    assert actor.do("io_setup", 500) > 0
    assert actor.do("call", _IO_DESTROY, ring) == 0


def _nonlinear(actor: Actor) -> None:
    fd = actor.do("memfd", _LENGTH)
    _mapped(actor, fd)
    actor.touch(_BASE, _LENGTH)
    assert actor.do("call", _REMAP_FILE_PAGES, _BASE, SLOT, 0, 2 * SLOT // _PAGE, 0) == 0


def _merged_by_ksm(actor: Actor) -> None:
    result = actor.do("call", _PRCTL, 67, 1, 0, 0, 0)
    if result < 0:
        pytest.skip("this kernel has no KSM")
    _anonymous(actor)
    actor.do("mprotect", _BASE + SLOT, SLOT, 1)
    actor.do("mprotect", _BASE + SLOT, SLOT, _RW)
    actor.advise(_BASE, _LENGTH, _DONTNEED)


def _droppable(call: Callable[[Actor], object]) -> Callable[[Actor], None]:
    """An act on droppable memory beside private memory, as glibc 2.41 maps it for getrandom."""

    def act(actor: Actor) -> None:
        _anonymous(actor)
        droppable = _DROPPABLE | mmap.MAP_ANONYMOUS | _FIXED
        if actor.do("mmap", _BASE + _LENGTH, 2 * SLOT, _RW, droppable, _NO_FD, 0) < 0:
            pytest.skip("this kernel has no droppable memory")
        actor.touch(_BASE + _LENGTH, SLOT)
        call(actor)
        actor.advise(_BASE, _LENGTH + SLOT // 2, _DONTNEED)

    return act


def _by_int80(actor: Actor) -> None:
    _anonymous(actor, _LOW)
    result = actor.do("int80", 91, _LOW, SLOT)
    assert result == 0
    assert actor.do("int80", 125, _LOW + 2 * SLOT, _PAGE, 1) == 0


def _by_uring(actor: Actor) -> None:
    _anonymous(actor)
    result = actor.do("uring_madvise", _BASE, 2 * SLOT, _DONTNEED)
    if result < 0:
        pytest.skip(f"this kernel refuses it: {os.strerror(-result)}")


ACTS = (
    Act("ftruncate", _cut("call", _FTRUNCATE, SLOT + _PAGE)),
    Act("ftruncate, private", _cut_private),
    Act("ftruncate to nothing", _cut("call", _FTRUNCATE, 0)),
    Act("truncate", _cut("truncate_path", SLOT), by_events=False),
    Act("open with O_TRUNC", _cut("open_to_write")),
    Act("hole", _cut("call", _FALLOCATE, _PUNCH_HOLE, SLOT + 100, SLOT)),
    Act("hole in two mappings", _mapped_twice),
    Act("ftruncate by another", _cut_by_another),
    Act("hole by another", _hole_by_another),
    Act("shmat", _shmat),
    Act("shmdt", _shmdt),
    Act("shmdt of a segment with a hole", _shmdt_in_parts),
    Act("DONTDUMP", _split(_advice(_DONTDUMP))),
    Act("DODUMP", _and_back(_advice(_DONTDUMP), _advice(_DODUMP))),
    Act("RANDOM", _split(_advice(_RANDOM))),
    Act("NORMAL", _and_back(_advice(_RANDOM), _advice(_NORMAL))),
    Act("WIPEONFORK", _split(_advice(_WIPEONFORK))),
    Act("MERGEABLE", _split(_advice(_MERGEABLE))),
    Act("UNMERGEABLE", _and_back(_advice(_MERGEABLE), _advice(_MERGEABLE + 1))),
    Act("mbind", _split(_policy(_BIND))),
    Act("mbind and back", _and_back(_policy(_BIND), _policy(0))),
    Act("name", _split(_name(7))),
    Act("name and back", _and_back(_name(7), _name(0))),
    Act("mseal", _split(_seal)),
    Act("KSM for all", _merged_by_ksm),
    Act("droppable", _droppable(lambda _actor: None)),
    Act("droppable, KSM", _droppable(lambda actor: actor.do("call", _PRCTL, 67, 1, 0, 0, 0))),
    Act("droppable, locked", _droppable(lambda actor: actor.do("mlock", _BASE, _LENGTH + SLOT))),
    Act(
        "droppable, cut",
        _droppable(lambda actor: actor.do("munmap", _BASE + _LENGTH + SLOT, _PAGE)),
    ),
    Act("userfaultfd copies", _uffd_copies),
    Act("userfaultfd copies in part", _uffd_copies_in_part),
    Act("userfaultfd zeroes", _uffd_zeroes),
    Act("userfaultfd moves", _uffd_moves, by_events=False),
    Act("userfaultfd continues", _uffd_continues),
    Act("userfaultfd poisons", _uffd_poisons),
    Act("userfaultfd protects", _uffd_protects, by_events=False),
    Act("userfaultfd registers", _uffd_splits),
    Act("O_DIRECT", _pins("direct_read")),
    Act("vmsplice", _pins("vmsplice")),
    Act("process_vm_writev", _written_from_outside),
    Act("process_madvise of another", _paged_out_from_outside, by_events=False),
    Act("aio", _aio),
    Act("remap_file_pages", _nonlinear, by_events=False),
    Act("int 0x80", _by_int80, by_events=False),
    Act("io_uring", _by_uring, by_events=False),
)


@pytest.fixture(scope="module")
def attach() -> Iterator[Attacher]:
    with watching() as attach:
        yield attach


def _differences(session: Session) -> dict[str, int]:
    """Differences to the current page tables and VMAs."""
    while session.take():
        pass
    vmas = session.reader.vmas(session.target)
    real, shadow = session.reader.pages(session.target, vmas), session.table.pages()
    here, there = shadow.entries_by_slot(), real.entries_by_slot()
    same = np.intersect1d(shadow.slots, real.slots)
    maps = [p.present[np.isin(p.slots, same)] for p in (shadow, real)]
    return {
        "PTE pages": len(here.keys() ^ there.keys()),
        "entries": int(np.bitwise_count(maps[0] ^ maps[1]).sum()),
        "VMAs": len(session.table.wrong_vmas(vmas)),
    }


_NONE = {"PTE pages": 0, "entries": 0, "VMAs": 0}


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name)
def test_each_rare_call_is_followed(act: Act, attach: Attacher) -> None:
    actor = Actor()
    try:
        session = attach(actor.pid)
        act.act(actor)
        if not act.by_events:
            until = time.monotonic() + 1
            while time.monotonic() < until:
                session.pump()
                time.sleep(0.005)
        assert _differences(session) == _NONE
        assert session.table.counter(Counter.LOST) == 0
        if act.by_events:
            session.audit()
            assert session.audits.repaired == session.audits.vmas_diff == 0
    finally:
        actor.close()
