"""Random system calls in a child: after each, shadow and kernel agree.

VmPTE is predicted to the byte, every entry of pagemap is right, and the VMAs
have the kernel's boundaries: after mmap, munmap, mprotect, mremap, mlock,
DONTNEED, FREE, reads and writes, on and around the edges of slots.
"""

import random
from collections.abc import Iterator

import pytest

from shadow.table import Counter
from tests.live.actor import SLOT, Actor
from tests.live.attached import attached
from tracer.session import Session

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


def _real_vmas(session: Session) -> list[tuple[int, int]]:
    vmas = session.target.vmas()
    spans = zip(vmas["start"].tolist(), vmas["end"].tolist(), strict=True)
    return [(start, end) for start, end in spans if _BASE <= start < _END]


def _shadow_vmas(session: Session) -> list[tuple[int, int]]:
    vmas = session.table.state.vmas[: session.table.counter(Counter.VMAS)]
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
        """Where to move a mapping: anywhere, or with the same offset in its slot."""
        if self._random.random() < 0.5:
            far = self.choice([0, 0, 1 << 30])
            return _BASE + far + self._random.randrange(_SLOTS * SLOT // 4096) * 4096
        aligned = _BASE + (2 * _SLOTS + self._random.randrange(_SLOTS)) * SLOT
        return aligned + self.choice([0, 0, start % SLOT])


def _mapped(session: Session, start: int, end: int, right: str) -> Iterator[tuple[int, int]]:
    """The parts of [start, end) that may be touched."""
    lines = (session.target.pid, "maps")
    with open("/proc/{}/{}".format(*lines)) as maps:
        for line in maps:
            span, rights, *_ = line.split()
            first, last = (int(part, 16) for part in span.split("-"))
            low, high = max(first, start), min(last, end)
            if low < high and rights.startswith(right):
                yield low, high - low


def _act(name: str, chance: _Chance, actor: Actor, session: Session) -> str:
    """Do one thing; returns what was done, for the message of a failure."""
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
                session.audit()
                audit = session.snapshot().audit
                last = f"seed {seed}, after: {done[-5:]}"
                assert audit.runs == step, last
                assert audit.pte_pages_diff == audit.refs_diff == 0, f"{audit} {last}"
                assert audit.empty_missing == audit.empty_extra == 0, f"{audit} {last}"
                assert _shadow_vmas(session) == _real_vmas(session), last
    finally:
        actor.close()
