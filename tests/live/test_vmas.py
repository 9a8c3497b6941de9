# SPDX-License-Identifier: GPL-2.0-only
"""VMAs equal the kernel's: those of threads, of a JVM, and from before the attach."""

import mmap
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from shadow.table.vma import VmaFlag
from tests.live.actor import SLOT, Actor
from tests.live.attached import attached
from tests.live.semantics_rows import BASE
from tracer.follow.session import Session
from tracer.process.target import Target

_PAGE, _NORESERVE = 4096, 0x4000
_DONTNEED, _DONTDUMP, _GUARD_INSTALL = 4, 16, 102
_THREADS = """
import threading, time, random
def work(left):
    for _ in range(left):
        held = bytearray(random.randrange(100_000, 600_000))
        time.sleep(0.002)
while True:
    threads = [threading.Thread(target=work, args=(random.randrange(5, 60),)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""
_JAVA = """
Runnable work = new Runnable() {
    public void run() {
        byte[][] kept = new byte[100][];
        for (int j = 0; ; j++) {
            kept[j % 100] = new byte[1 << 16];
            Thread.sleep(1);
        }
    }
};
for (int i = 0; i < 20; i++) new Thread(work).start();
for (;;) {
    Thread thread = new Thread(new Runnable() { public void run() { some = new byte[1 << 20]; } });
    thread.start();
    thread.join();
    Thread.sleep(50);
    System.gc();
}
"""
"""A script of BeanShell: a JVM alone has no compiler."""
_BEANSHELL = "/usr/share/java/bsh.jar"


@contextmanager
def _running(*command: str) -> Iterator[int]:
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


def _audits_while_it_runs(pid: int, seconds: int) -> Session:
    with attached(pid) as session:
        for _ in range(seconds):
            until = time.monotonic() + 1
            while time.monotonic() < until:
                session.pump()
                time.sleep(0.005)
            session.audit()
        return session


def test_threads_that_come_and_go() -> None:
    """MAP_STACK mappings do not merge with their neighbours."""
    with _running(sys.executable, "-c", _THREADS) as pid:
        session = _audits_while_it_runs(pid, 5)
    assert session.audits.runs == 5
    assert session.audits.vmas_diff == 0
    assert session.audits.pte_pages_diff == 0


@pytest.mark.alone
@pytest.mark.parametrize("collector", ["G1", "Z"])
def test_a_jvm(collector: str, tmp_path: Path) -> None:
    script = tmp_path / "churn.bsh"
    script.write_text(_JAVA)
    options = ("-Xmx300m", f"-XX:+Use{collector}GC", "-cp", _BEANSHELL)
    with _running("java", *options, "bsh.Interpreter", str(script)) as pid:
        session = _audits_while_it_runs(pid, 8)
    assert session.audits.runs == 8
    assert session.audits.vmas_diff == 0


def _same(session: Session) -> bool:
    while session.take():
        pass
    vmas = session.reader.vmas(session.target)
    real, shadow = session.reader.pages(session.target, vmas), session.table.pages()
    assert session.table.wrong_vmas(vmas) == set()
    assert not session.table.merges_wrong(vmas)
    return real.entries_by_slot() == shadow.entries_by_slot()


def test_settings_from_before_the_attach_are_read() -> None:
    """Flags and policies keep a VMA split, and it merges when they are removed."""
    actor = Actor()
    try:
        actor.map(BASE, 8 * SLOT)
        actor.advise(BASE, 8 * SLOT, mmap.MADV_NOHUGEPAGE)
        actor.touch(BASE, 8 * SLOT)
        acts: tuple[Callable[[int], int], ...] = (
            lambda at: actor.advise(at, _PAGE, _DONTDUMP),
            lambda at: actor.do("mlock", at, _PAGE),
            lambda at: actor.do("mbind", at, _PAGE, 2),
            lambda at: actor.do("mprotect", at, _PAGE, 1),
        )
        for slot, act in enumerate(acts):
            assert act(BASE + (2 * slot + 1) * SLOT) == 0
        with attached(actor.pid) as session:
            flags = session.table.vmas()["flags"]
            assert (flags & VmaFlag.DONTDUMP != 0).sum() >= 1
            assert (flags & VmaFlag.LOCKED != 0).sum() == 1
            actor.advise(BASE, 3 * SLOT, _DONTNEED)
            actor.advise(BASE + SLOT, _PAGE, _DONTDUMP + 1)
            actor.do("munlock", BASE + 3 * SLOT, _PAGE)
            actor.do("mbind", BASE + 5 * SLOT, _PAGE, 0)
            actor.do("mprotect", BASE + 7 * SLOT, _PAGE, 3)
            actor.touch(BASE, 8 * SLOT)
            actor.advise(BASE, 8 * SLOT, _DONTNEED)
            assert _same(session)
            inside = session.table.vmas()["start"]
            assert np.isin(inside, np.arange(BASE, BASE + 8 * SLOT)).sum() == 1
    finally:
        actor.close()


@pytest.mark.parametrize("times", [1, 7])
def test_mappings_that_change_during_each_reading_are_read_again(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heap grows after the reading of /proc/PID/maps and before that of the kernel's tree."""
    actor, at_once = Actor(), Target.vmas
    pages = iter(range(1, times + 1))

    def vmas(target: Target) -> npt.NDArray[np.void]:
        found = at_once(target)
        for page in islice(pages, 1):
            actor.do("mprotect", BASE, page * _PAGE, 3)
        return found

    try:
        actor.map(BASE, 8 * SLOT, 0, mmap.MAP_PRIVATE | _NORESERVE)
        monkeypatch.setattr(Target, "vmas", vmas)
        with attached(actor.pid) as session:
            while session.unsettled:
                session.pump()
            session.audit()
            assert next(pages, None) is None
            assert session.audits.vmas_diff == 0
            assert _same(session)
    finally:
        actor.close()


def test_guard_markers_from_before_the_attach_are_read_and_kept() -> None:
    actor = Actor()
    try:
        actor.map(BASE, 4 * SLOT)
        actor.advise(BASE, 4 * SLOT, mmap.MADV_NOHUGEPAGE)
        actor.touch(BASE, 4 * SLOT)
        if actor.advise(BASE + SLOT + 5 * _PAGE, 3 * _PAGE, _GUARD_INSTALL) < 0:
            pytest.skip("this kernel has no guard markers")
        actor.advise(BASE + 2 * SLOT - _PAGE, 2 * _PAGE, _GUARD_INSTALL)
        with attached(actor.pid) as session:
            actor.advise(BASE, 4 * SLOT, _DONTNEED)
            assert _same(session)
            assert session.table.pages().entries_by_slot()[BASE + SLOT] == 4
            session.seed()
            session.audit()
            actor.touch(BASE + SLOT, 5 * _PAGE)
            actor.advise(BASE, 4 * SLOT, _DONTNEED)
            assert _same(session)
            assert session.audits.repaired == 0
    finally:
        actor.close()


def test_a_reading_and_events_give_the_same_names_policies_and_files() -> None:
    """Only then can VMAs from before the attach merge with later ones."""
    actor = Actor()
    try:
        actor.map(BASE, 4 * SLOT)
        actor.do("mbind", BASE, SLOT, 2)
        file = actor.do("memfd", 4 * SLOT)
        at = BASE + 64 * SLOT
        actor.do("mmap", at, SLOT, 3, 0x11, file, 0)
        with attached(actor.pid) as session:
            actor.do("mbind", BASE + SLOT, SLOT, 2)
            actor.do("mmap", at + SLOT, SLOT, 3, 0x11, file, SLOT)
            actor.do("mmap", at + 2 * SLOT, SLOT, 3, 0x11, file, 0)
            assert _same(session)
            vmas = session.engine.vmas()
            spans = set(zip(vmas["start"].tolist(), vmas["end"].tolist(), strict=True))
            assert {(BASE, BASE + 2 * SLOT), (at, at + 2 * SLOT)} <= spans
            assert (at + 2 * SLOT, at + 3 * SLOT) in spans
    finally:
        actor.close()
