# SPDX-License-Identifier: GPL-2.0-only
"""New readings find changes without events, and repair the shadow."""

import ctypes
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shadow.report.text import render
from shadow.table.counters import Counter
from shadow.table.page_set import Pages
from tests.live.actor import SLOT, Actor
from tests.live.attached import attached
from tracer.follow.session import Session

_BASE = 0x10_0000_0000
_PRIVATE, _POPULATE = 2, 0x8000
_PAGEOUT = 21


def _pump(session: Session, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        session.pump()
        time.sleep(0.01)


def _settle(session: Session) -> None:
    """Repair what the seed could not know, and check that the shadow is right."""
    session.audit()
    before = session.audits
    session.audit()
    assert session.audits.repaired == before.repaired


def test_the_seed_is_exact_for_any_earlier_state() -> None:
    """The shadow has the addresses of empty PTE pages from before the attach."""
    actor = Actor()
    try:
        actor.map(_BASE, 8 * SLOT)
        actor.advise(_BASE, 8 * SLOT, mmap.MADV_NOHUGEPAGE)
        actor.touch(_BASE, 8 * SLOT)
        for half in range(10):
            actor.advise(_BASE + half * SLOT // 2, SLOT // 2, mmap.MADV_DONTNEED)
        with attached(actor.pid) as session:
            session.stop()
            report = session.snapshot(slots=True)
    finally:
        actor.close()
    assert report.kernel.seed == "census"
    assert report.empty_slots == [_BASE + slot * SLOT for slot in range(5)]
    assert report.now.unplaced == 0
    assert report.audit.repaired == 0


def test_pages_taken_by_another_process_are_found_by_drift_and_repaired(tmp_path: Path) -> None:
    """Another process calls process_madvise(MADV_PAGEOUT); the target does nothing."""
    file = tmp_path / "file"
    file.write_bytes(os.urandom(32 << 20))
    program = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import ctypes,mmap,sys; f=open(sys.argv[1],'r+b');"
            "m=mmap.mmap(f.fileno(),0,mmap.MAP_PRIVATE);"
            "sum(m[i] for i in range(0,len(m),4096));"
            "print(ctypes.addressof(ctypes.c_char.from_buffer(m)),flush=True);sys.stdin.read()",
            str(file),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout
        start = int(program.stdout.readline())
        with attached(program.pid) as session:
            _settle(session)
            before, mapped = session.audits, _mapped(session)
            _page_out(program.pid, start, 32 << 20)
            _pump(session, 2.5)
            # Small or huge entries, depending on the file system.
            assert _mapped(session) < mapped - 4000
            assert session.audits.repaired >= before.repaired + 16
            assert session.audits.causes.keys() & {"file mapping", "thp"}
            assert session.audits.runs == before.runs  # no requested audit ran
    finally:
        program.kill()
        program.communicate()


def _mapped(session: Session) -> int:
    """Number of entries in the shadow."""
    table = session.table
    return table.counter(Counter.REFS) + 512 * table.counter(Counter.HUGE)


def _page_out(pid: int, start: int, length: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    vector = (ctypes.c_uint64 * 2)(start, length)
    done = libc.syscall(440, pidfd, vector, ctypes.c_size_t(1), _PAGEOUT, 0)
    assert done == length, os.strerror(ctypes.get_errno())
    os.close(pidfd)


@pytest.mark.parametrize("how", ["mmap", "madvise", "mlock"])
def test_pages_populated_without_faults_are_counted(how: str, tmp_path: Path) -> None:
    actor = Actor()
    try:
        with attached(actor.pid) as session:
            if how == "mmap":
                actor.map(_BASE, 3 * SLOT + 0x5000, 3, _PRIVATE | _POPULATE)
            else:
                actor.map(_BASE, 3 * SLOT + 0x5000)
                populate_write = 23
                if how == "madvise":
                    assert actor.advise(_BASE, 2 * SLOT + 0x3000, populate_write) == 0
                else:
                    assert actor.do("mlock", _BASE, SLOT + 0x3000) == 0
            _pump(session, 0.3)
            runs = session.audits.runs
            session.audit()
            again = session.audits
            session.audit()
            assert runs == 0
            assert session.audits.repaired == again.repaired
            assert again.empty_missing == again.empty_extra == 0
    finally:
        actor.close()


def test_after_losses_the_tables_are_read_again() -> None:
    """The ring has only 64 KiB, and events arrive faster than they are read."""
    actor = Actor()
    try:
        with attached(actor.pid, ring_bytes=1 << 16) as session:
            actor.map(_BASE, 16 * SLOT)
            actor.advise(_BASE, 16 * SLOT, mmap.MADV_NOHUGEPAGE)
            actor.touch(_BASE, 16 * SLOT)
            for half in range(20):
                actor.advise(_BASE + half * SLOT // 2, SLOT // 2, mmap.MADV_DONTNEED)
            assert actor.do("munmap", _BASE + 12 * SLOT, 4 * SLOT) == 0
            _pump(session, 0.5)
            session.stop()
            report = session.snapshot(slots=True)
            before = session.audits
            session.audit()
    finally:
        actor.close()
    assert report.window.lost > 0
    assert report.empty_slots == [_BASE + slot * SLOT for slot in range(10)]
    assert report.audit.causes["loss"] > 0
    assert session.audits.repaired == before.repaired


def _never_at_rest(session: Session, change: Callable[[], object]) -> None:
    """Let the process change pages during each reading, however busy the host is."""
    read = session.reader.pages

    def pages(*args: Any, **kwargs: Any) -> Pages:
        change()
        return read(*args, **kwargs)

    session.reader.pages = pages  # type: ignore[method-assign]


def test_pages_that_always_change_count_as_not_compared() -> None:
    """The process touches and discards pages of sixteen slots; the others are idle."""
    actor = Actor()
    try:
        actor.map(_BASE, 16 * SLOT)
        actor.advise(_BASE, 16 * SLOT, mmap.MADV_NOHUGEPAGE)

        def change() -> None:
            actor.advise(_BASE, 16 * SLOT, mmap.MADV_DONTNEED)
            actor.touch(_BASE, 16 * SLOT, SLOT)

        change()
        with attached(actor.pid) as session:
            _never_at_rest(session, change)
            session.stop()
            report = session.snapshot()
    finally:
        actor.close()
    audit = report.audit
    assert audit.runs == audit.incomplete_runs == 1
    assert audit.not_compared == 16
    assert audit.compared == report.now.pte_pages - 16
    assert not audit.complete
    assert "NOT CHECKED" in render(report)


def test_an_idle_process_is_compared_completely() -> None:
    actor = Actor()
    try:
        actor.map(_BASE, 8 * SLOT)
        actor.touch(_BASE, 8 * SLOT)
        with attached(actor.pid) as session:
            actor.advise(_BASE, 3 * SLOT // 2, mmap.MADV_DONTNEED)
            session.stop()
            report = session.snapshot()
    finally:
        actor.close()
    audit = report.audit
    assert (audit.runs, audit.vmas_runs, audit.incomplete_runs) == (1, 1, 0)
    assert (audit.compared, audit.not_compared) == (report.now.pte_pages, 0)


def test_a_counted_reading_has_the_number_of_empty_pages_without_addresses() -> None:
    actor = Actor()
    try:
        actor.map(_BASE, 4 * SLOT)
        actor.advise(_BASE, 4 * SLOT, mmap.MADV_NOHUGEPAGE)
        actor.touch(_BASE, 4 * SLOT)
        for half in range(4):
            actor.advise(_BASE + half * SLOT // 2, SLOT // 2, mmap.MADV_DONTNEED)
        with attached(actor.pid, exact=False) as session:
            for half in range(4, 8):
                actor.advise(_BASE + half * SLOT // 2, SLOT // 2, mmap.MADV_DONTNEED)
            session.stop()
            report = session.snapshot(slots=True)
    finally:
        actor.close()
    assert report.kernel.seed == "counted"
    assert report.now.unplaced == 2
    assert report.now.empty == 4
    assert report.empty_slots == [_BASE + 2 * SLOT, _BASE + 3 * SLOT]
    assert report.audit.pte_pages_diff == report.audit.empty_missing == 0
    assert any(note.startswith("Page tables are counted") for note in report.notes)
