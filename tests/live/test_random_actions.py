# SPDX-License-Identifier: GPL-2.0-only
"""Random system calls in a child: after each, shadow and kernel agree.

The shadow predicts VmPTE exactly, its entries equal pagemap, and its VMAs have the kernel's
boundaries. The actions are mmap, munmap, mprotect, mremap, mlock, DONTNEED, FREE, reads and
writes, on and around the edges of slots. The second test adds rarer actions: other advice, memory
policies, mapped and truncated files, SysV shared memory, userfaultfd, pinned pages.
"""

import random
import time
from collections.abc import Iterator

import pytest

from shadow.table.vma import VmaFlag
from tests.live.actor import SLOT, Actor
from tests.live.attached import attached
from tracer.follow.session import Session

_BASE = 0x10_0000_0000
_SLOTS = 8
_END = _BASE + (4 << 30)
_STEPS = 40
_MAYMOVE, _FIXED, _DONTUNMAP = 1, 2, 4
_DONTNEED, _FREE = 4, 8
_NAMES = (
    *["write"] * 6,
    *["dontneed"] * 4,
    *["munmap", "mremap"] * 2,
    *["read", "free", "mmap", "mprotect", "mlock", "munlock"],
)
_RARER = (
    *["write"] * 4,
    *["dontneed", "advice", "mbind", "file", "hole", "cut", "uffd"] * 3,
    *["mremap", "mmap", "mprotect", "shm", "vmsplice", "munmap", "fill", "unregister"],
)
_ADVICE = (0, 1, 2, 12, 13, 14, 15, 16, 17, 18, 19)
"""NORMAL, RANDOM, SEQUENTIAL, (UN)MERGEABLE, (NO)HUGEPAGE, (DONT)DUMP, WIPE- and KEEPONFORK."""
_SHARED_FIXED, _PUNCH_HOLE = 0x11, 3
_FTRUNCATE, _FALLOCATE, _SHMGET, _SHMAT, _SHMCTL = 77, 285, 29, 30, 31
_UFFDIO_ZEROPAGE, _UFFDIO_UNREGISTER = 0xC020AA04, 0x8010AA01
_MISSING = 1
_FILE = 4 * SLOT
_COUNTED = (
    *("pte_pages_diff", "empty_missing", "empty_extra", "refs_diff", "vmas_diff", "repaired"),
)


def _real_vmas(session: Session) -> list[tuple[int, int]]:
    vmas = session.target.vmas()
    spans = zip(vmas["start"].tolist(), vmas["end"].tolist(), strict=True)
    return [(start, end) for start, end in spans if _BASE <= start < _END]


def _shadow_vmas(session: Session) -> list[tuple[int, int]]:
    vmas = session.table.vmas()
    spans = zip(vmas["start"].tolist(), vmas["end"].tolist(), strict=True)
    return [(start, end) for start, end in spans if _BASE <= start < _END]


class _Chance:
    """Ranges and arguments, from one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.choice = self._random.choice

    def range(self) -> tuple[int, int]:
        """A start and a length, often on or near the edge of a slot."""
        unit = self.choice([4096, 16 * 4096, SLOT // 2, SLOT])
        start = _BASE + self._random.randrange(_SLOTS * SLOT // unit) * unit
        most = max(2, 6 * SLOT // unit // self.choice([1, 2, 8]))
        return start, unit * self._random.randrange(1, most)

    def target(self, start: int) -> int:
        """A destination for a mapping: any, or one with the same offset in its slot."""
        if self._random.random() < 0.5:
            far = self.choice([0, 0, 1 << 30])
            return _BASE + far + self._random.randrange(_SLOTS * SLOT // 4096) * 4096
        aligned = _BASE + (2 * _SLOTS + self._random.randrange(_SLOTS)) * SLOT
        return aligned + self.choice([0, 0, start % SLOT])


def _mapped(session: Session, start: int, end: int, right: str) -> Iterator[tuple[int, int]]:
    """The parts of [start, end) that can be touched without a wait for a userfaultfd."""
    for vma in session.reader.vmas(session.target):
        low, high = max(int(vma["start"]), start), min(int(vma["end"]), end)
        wanted = VmaFlag.READ | (VmaFlag.WRITE if right == "rw" else 0)
        flags = int(vma["flags"]) & (wanted | VmaFlag.UFFD_MISSING)
        # The page cache decides how many pages of a file a read maps.
        if low < high and flags == wanted and (right == "rw" or vma["file"] == 0):
            yield low, high - low


def _act(name: str, chance: _Chance, actor: Actor, session: Session) -> str:
    """Do one action; returns its description for the message of a failure."""
    start, length = chance.range()
    result = 0
    more = ""
    if name in ("write", "read"):
        step = chance.choice([4096, 8192, SLOT])
        for low, size in _mapped(session, start, start + length, "rw" if name == "write" else "r"):
            (actor.touch if name == "write" else actor.read)(low, size, step)
    elif name in ("dontneed", "free"):
        result = actor.advise(start, length, _DONTNEED if name == "dontneed" else _FREE)
    elif name == "mmap":
        result = actor.map(start, length, chance.choice([0, 1, 3, 3, 3]))
    elif name == "mprotect":
        prot = chance.choice([0, 1, 3])
        result, more = actor.do(name, start, length, prot), f" prot {prot}"
    elif name == "mremap":
        flags = chance.choice([0, _MAYMOVE, *[_MAYMOVE | _FIXED] * 3, 7])
        keeps_length = flags & _DONTUNMAP or chance.choice([True, True, False])
        new_length = length if keeps_length else chance.range()[1]
        target = chance.target(start)
        result = actor.do(name, start, length, new_length, flags, target)
        more = f" to {target - _BASE:#x} length {new_length:#x} flags {flags}"
    else:
        result = actor.do(name, start, min(length, SLOT) if "lock" in name else length)
    return f"{name} {start - _BASE:#x} length {length:#x}{more} = {result:#x}"


class _Rarer:
    """The rarer actions, with their file and their userfaultfd."""

    def __init__(self, chance: _Chance, actor: Actor, session: Session) -> None:
        self._chance, self._actor, self._session = chance, actor, session
        self._file = actor.do("memfd", _FILE)
        self._uffd = 0

    def _page_of_file(self) -> int:
        return self._chance.choice(range(_FILE // 4096)) * 4096

    def __call__(self, name: str) -> str:
        start, length = self._chance.range()
        result: int = getattr(self, name)(start, length)
        return f"{name} {start - _BASE:#x} length {length:#x} = {result:#x}"

    def advice(self, start: int, length: int) -> int:
        return self._actor.advise(start, length, self._chance.choice(_ADVICE))

    def mbind(self, start: int, length: int) -> int:
        return self._actor.do("mbind", start, length, self._chance.choice([0, 1, 2, 3]))

    def file(self, start: int, length: int) -> int:
        offset = self._page_of_file()
        length = min(length, _FILE - offset)
        flags = self._chance.choice([_SHARED_FIXED, _SHARED_FIXED, 0x12])
        return self._actor.do("mmap", start, length, 3, flags, self._file, offset)

    def hole(self, _start: int, length: int) -> int:
        first = self._page_of_file() + self._chance.choice([0, 0, 100])
        return self._actor.do("call", _FALLOCATE, self._file, _PUNCH_HOLE, first, length)

    def cut(self, _start: int, _length: int) -> int:
        """Truncate the file and extend it again, because SIGBUS would end the actor at a write."""
        shorter = self._page_of_file() + self._chance.choice([0, 100])
        result = self._actor.do("call", _FTRUNCATE, self._file, shorter)
        return result or self._actor.do("call", _FTRUNCATE, self._file, _FILE)

    def shm(self, start: int, length: int) -> int:
        segment = self._actor.do("call", _SHMGET, 0, length, 0o1600)
        self._actor.do("munmap", start, length)
        result = self._actor.do("call", _SHMAT, segment, start, 0)
        self._actor.do("call", _SHMCTL, segment, 0, 0)
        return result

    def vmsplice(self, start: int, length: int) -> int:
        """Pin anonymous memory; pages of a file would bring cached neighbours along."""
        results = [
            self._actor.do("vmsplice", low, min(size, 8 * 4096))
            for low, size in _mapped(self._session, start, start + length, "r")
        ]
        return sum(results)

    def uffd(self, start: int, length: int) -> int:
        result = self._actor.do("uffd", start, length, _MISSING, 0)
        self._uffd = result if result > 0 else self._uffd
        return result

    def fill(self, start: int, length: int) -> int:
        return self._actor.do("ioctl", self._uffd, _UFFDIO_ZEROPAGE, start, length, 0)

    def unregister(self, start: int, length: int) -> int:
        return self._actor.do("ioctl", self._uffd, _UFFDIO_UNREGISTER, start, length)


def _assert_same(session: Session, step: int, last: str) -> None:
    if last.endswith(("-0xe']", "-0xc']")):
        # The effect of a failed call is unknown: its range is read again, or drift shows it.
        until = time.monotonic() + 1
        while time.monotonic() < until:
            session.pump()
            time.sleep(0.005)
    before = session.audits
    session.audit()
    audit = session.audits
    assert audit.runs == step, last
    found = {name: getattr(audit, name) - getattr(before, name) for name in _COUNTED}
    assert not any(found.values()), f"{found} {audit.causes} {last}"
    assert _shadow_vmas(session) == _real_vmas(session), last


@pytest.mark.parametrize("seed", range(20))
def test_shadow_and_kernel_agree_after_each_rarer_action(seed: int) -> None:
    chance = _Chance(seed)
    actor = Actor()
    try:
        with attached(actor.pid) as session:
            rarer = _Rarer(chance, actor, session)
            actor.map(_BASE, _SLOTS * SLOT)
            done: list[str] = []
            for step in range(1, _STEPS + 1):
                name = chance.choice(_RARER)
                if name in _NAMES:
                    done.append(_act(name, chance, actor, session))
                else:
                    done.append(rarer(name))
                _assert_same(session, step, f"seed {seed}, after: {done[-5:]}")
    finally:
        actor.close()


@pytest.mark.parametrize("seed", range(20))
def test_shadow_and_kernel_agree_after_each_action(seed: int) -> None:
    chance = _Chance(seed)
    actor = Actor()
    try:
        with attached(actor.pid) as session:
            actor.map(_BASE, _SLOTS * SLOT)
            done: list[str] = []
            for step in range(1, _STEPS + 1):
                done.append(_act(chance.choice(_NAMES), chance, actor, session))
                _assert_same(session, step, f"seed {seed}, after: {done[-5:]}")
    finally:
        actor.close()
