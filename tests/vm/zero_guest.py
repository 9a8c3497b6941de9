# SPDX-License-Identifier: GPL-2.0-only
"""Agreement in a guest: python -m tests.vm.zero_guest FOLDER HISTORIES; a line of JSON a check.

The steps and experiments of `tests.vm.guest`, and random histories of a process with threads and
forks. FOLDER/trace.arrows has the trace of the steps.
"""

import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from shadow.table.page_set import Pages
from tests.live.actor import SLOT, Actor
from tests.live.attached import Attacher, watching
from tests.vm.guest import experiments, steps, still
from tests.vm.kcore import Kcore
from tests.vm.say import say
from tracer.follow.session import Session
from tracer.kernel import kernel_facts

_BASE, _SLOTS, _FAR = 0x10_0000_0000, 8, 32
_PAGE = 4096
_DONTNEED, _FREE, _NOHUGEPAGE, _DONTNEED_LOCKED = 4, 8, 15, 24
_GUARD_INSTALL, _GUARD_REMOVE = 102, 103
_SIZES = (_PAGE, 3 * _PAGE, 64 * _PAGE, SLOT // 2, SLOT, 3 * SLOT)
_ACTIONS = 24
_WINDOW = np.array([_BASE]), np.array([_BASE + (_FAR + 2 * _SLOTS) * SLOT])
_PER_PROCESS = 25
_EVERY = 6
"""The page tables are compared after so many actions, and at the end."""


class _History:
    """Random actions in the memory of one process, which is new to it."""

    def __init__(self, seed: int, actor: Actor) -> None:
        self._chance = random.Random(seed)
        self.actor = actor
        self.actor.do("munmap", _BASE, (_FAR + 2 * _SLOTS) * SLOT)
        self.done: list[str] = []
        self._children: list[int] = []
        self.actor.map(_BASE, _SLOTS * SLOT)
        self.actor.advise(_BASE, (_FAR + 2 * _SLOTS) * SLOT, _NOHUGEPAGE)
        self.actions: dict[str, Callable[[int, int], object]] = {
            "touch": self._touch,
            "dontneed": lambda at, size: self.actor.advise(at, size, _DONTNEED),
            "free": lambda at, size: self.actor.advise(at, size, _FREE),
            "threads": self._threads,
            "map": lambda at, size: self.actor.map(at, size),
            "unmap": lambda at, size: self.actor.do("munmap", at, size),
            "shared": lambda at, size: self.actor.map(at, size, flags=1),
            "remap": self._remap,
            "protect": lambda at, size: self.actor.do("mprotect", at, size, 3),
            "read only": lambda at, size: self.actor.do("mprotect", at, size, 1),
            "lock": lambda at, size: self.actor.do("mlock", at, min(size, 64 * _PAGE)),
            "dontneed locked": lambda at, size: self.actor.advise(at, size, _DONTNEED_LOCKED),
            "unlock": lambda at, size: self.actor.do("munlock", at, size),
            "guard": lambda at, size: self.actor.advise(at, min(size, SLOT), _GUARD_INSTALL),
            "unguard": lambda at, size: self.actor.advise(at, size, _GUARD_REMOVE),
            "fork": self._fork,
        }
        self._names = ["touch"] * 8 + ["dontneed"] * 8 + ["threads"] * 3 + list(self.actions)

    def _range(self) -> tuple[int, int]:
        size = self._chance.choice(_SIZES)
        unit = self._chance.choice((_PAGE, size))
        return _BASE + self._chance.randrange(_SLOTS * SLOT // unit) * unit, size

    def _touch(self, at: int, size: int) -> None:
        self.actor.do("safe_touch", at, size, self._chance.choice((_PAGE, 8 * _PAGE, SLOT)))

    def _threads(self, at: int, _size: int) -> None:
        """Threads that touch and release parts of their own of the same slots."""
        slot = at // SLOT * SLOT
        self.actor.do("race", slot, 2 * SLOT, self._chance.choice((2, 3, 4)),
                      self._chance.randrange(1 << 30))  # fmt: skip

    def _fork(self, _at: int, _size: int) -> None:
        self._children.append(self.actor.do("fork"))

    def close(self) -> None:
        """End the children, which hold the standard output of the process open."""
        for child in self._children:
            os.kill(child, signal.SIGKILL)

    def _remap(self, at: int, size: int) -> None:
        target = _BASE + (_FAR + self._chance.randrange(_SLOTS)) * SLOT
        target += self._chance.choice((0, at % SLOT, 5 * _PAGE))
        self.actor.do("mremap", at, size, size, 3, target)
        self.actor.do("mremap", target, size, size, 3, at)

    def act(self) -> None:
        """Do one action."""
        name, (at, size) = self._chance.choice(self._names), self._range()
        self.done.append(f"{name} {at - _BASE:#x} {size:#x} = {self.actions[name](at, size)}")


def _real(session: Session) -> Pages:
    """The memory of the history; the page cache decides what faults map of the program's files."""
    return session.reader.pages(session.target, session.target.vmas(), within=_WINDOW)


@dataclass
class _Sums:
    """What was compared, and how often it differed."""

    compared: int = 0
    pages: int = 0
    differ: int = 0


def _compare(session: Session, history: _History, sums: _Sums, seed: int) -> bool:
    """Whether shadow and page tables are equal; prints a difference."""
    real = still(session, partial(_real, session)).entries_by_slot()
    shadow = session.table.pages().restricted(_WINDOW).entries_by_slot()
    sums.compared += 1
    sums.pages += len(real)
    if real == shadow:
        return True
    sums.differ += 1
    slots = sorted(real.keys() | shadow.keys())
    wrong = {hex(s): (real.get(s), shadow.get(s)) for s in slots if real.get(s) != shadow.get(s)}
    say("difference", seed=seed, real_and_shadow=wrong, after=history.done)
    return False


def _run_history(seed: int, actor: Actor, session: Session, sums: _Sums) -> None:
    history = _History(seed, actor)
    for action in range(1, _ACTIONS + 1):
        history.act()
        if action % _EVERY == 0 and not _compare(session, history, sums, seed):
            session.audit()  # for the histories after this one
            break
    history.close()


def _histories(attach: Attacher, count: int) -> None:
    """Run them; print how many comparisons differed, and how many audits corrected anything."""
    sums, repaired = _Sums(), 0
    for first in range(0, count, _PER_PROCESS):
        actor = Actor()
        session = attach(actor.pid)
        for seed in range(first, min(first + _PER_PROCESS, count)):
            _run_history(seed, actor, session, sums)
        repaired += session.audits.repaired
        session.end()
        attach.probes.remove(actor.pid)
        actor.close()
        say("progress", done=min(first + _PER_PROCESS, count), **asdict(sums), repaired=repaired)
    say("histories", count=count, **asdict(sums), repaired=repaired)


def main() -> None:
    """Run all checks."""
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    kernel = kernel_facts()
    say("kernel", release=kernel.release, policy=kernel.policy.label)
    kcore = Kcore(kernel.geometry)
    with watching() as attach:
        steps(folder, kcore, attach)
        experiments(attach)
        _histories(attach, count)
    kcore.close()


if __name__ == "__main__":
    main()
