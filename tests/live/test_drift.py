# SPDX-License-Identifier: GPL-2.0-only
"""Changes of page tables without events show in VmPTE and RSS, and lead to a reading.

Another process makes the changes, through /proc/PID/mem and the file that is mapped, so none
of them is an event of the process that is followed.
"""

import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shadow.snapshot import Snapshot
from shadow.table import prepare
from tests.live.actor import SLOT
from tests.live.attached import attached, truth
from tracer.census import open_reader
from tracer.daemon import Host, Limits, Selection
from tracer.kernel import kernel_facts
from tracer.probes.stream import Probes
from tracer.procfs import vm_pte_kib

_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_SLOTS = 64
_SECONDS = 8.0
"""Within which such a change is known: 2 s at rest, and more where the machine is busy."""
_SCRIPT = """
import mmap, os, sys, time
open("/proc/self/comm", "w").write("drift-victim")
path, shared, slots, busy = sys.argv[1], *map(int, sys.argv[2:])
if shared:
    with open(path, "r+b") as file:
        area = mmap.mmap(file.fileno(), slots << 21, mmap.MAP_SHARED)
else:
    area = mmap.mmap(-1, slots << 21, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_NOHUGEPAGE)
other = mmap.mmap(-1, 1 << 22, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
import ctypes
print(ctypes.addressof(ctypes.c_char.from_buffer(area)), flush=True)
while True:
    time.sleep(0.02 if busy else 60)
    for page in range(0, 1 << 20, 4096):
        other[page] = 1
    other.madvise(mmap.MADV_DONTNEED)
"""


@dataclass
class _Victim:
    """A process that is changed from outside."""

    pid: int
    address: int
    path: Path

    def populate(self, slots: range, pages: int = 1) -> None:
        """Write into its memory, a page or more in each of these slots."""
        memory = os.open(f"/proc/{self.pid}/mem", os.O_WRONLY)
        for slot in slots:
            for page in range(pages):
                os.pwrite(memory, b"x", self.address + slot * SLOT + page * 4096)
        os.close(memory)

    def empty(self) -> None:
        """Take all pages of the file away, by MADV_REMOVE on a mapping of our own."""
        with self.path.open("r+b") as file, mmap.mmap(file.fileno(), _SLOTS * SLOT) as area:
            area.madvise(mmap.MADV_REMOVE)


@pytest.fixture(params=["idle", "busy"])
def victim(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[_Victim]:
    """It maps a file, and does nothing, or faults and purges elsewhere all the time."""
    path = Path("/dev/shm") / f"ptescope-test-{os.getpid()}"
    path.write_bytes(b"")
    os.truncate(path, _SLOTS * SLOT)
    arguments = [str(path), "1", str(_SLOTS), str(int(request.param == "busy"))]
    child = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout
        yield _Victim(child.pid, int(child.stdout.readline()), path)
    finally:
        child.kill()
        child.communicate()
        path.unlink()


def _until(
    step: Callable[[], object], known: Callable[[], bool], seconds: float = _SECONDS
) -> float:
    """How long it takes until it is known.

    Raises:
        AssertionError: longer than that.
    """
    begin = time.monotonic()
    while not known():
        assert time.monotonic() - begin < seconds
        step()
        time.sleep(0.02)
    return time.monotonic() - begin


def _for(step: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        step()
        time.sleep(0.02)


def _slots(found: Snapshot, victim: _Victim) -> int:
    """How many slots of the mapping have an empty PTE page."""
    assert found.empty_slots is not None
    inside = range(victim.address, victim.address + _SLOTS * SLOT)
    return sum(slot in inside for slot in found.empty_slots)


@pytest.mark.parametrize("exact", [True, False])
def test_a_session_reads_again_within_two_seconds(victim: _Victim, exact: bool) -> None:
    with attached(victim.pid, exact=exact) as session:
        _for(session.pump, 1.0)
        before = session.pte_pages, session.empty
        victim.populate(range(_SLOTS))
        _until(session.pump, lambda: session.pte_pages >= before[0] + _SLOTS - 1)
        _for(session.pump, 1.0)
        victim.empty()
        _until(session.pump, lambda: session.empty >= before[1] + _SLOTS - 1)
        assert session.audits.runs == 0
        if exact:
            assert "unknown" not in session.audits.empty_causes
            assert session.audits.empty_causes["shared file mapping"] >= _SLOTS - 1


def test_drift_of_vm_pte_alone_leads_to_a_reading(victim: _Victim) -> None:
    """Populated and emptied between two looks, RSS is what it was."""
    with attached(victim.pid) as session:
        _for(session.pump, 1.0)
        victim.populate(range(_SLOTS))
        victim.empty()
        _until(session.pump, lambda: _slots(session.snapshot(slots=True), victim) >= _SLOTS - 1)


def test_drift_of_a_few_entries_leads_to_a_reading_of_an_idle_process(victim: _Victim) -> None:
    with attached(victim.pid) as session:
        victim.populate(range(_SLOTS))
        _for(session.pump, 2.0)
        quiet = session.events
        hole = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE
        subprocess.run(
            ["fallocate", "-p", "-o", "0", "-l", str(4 * SLOT), str(victim.path)], check=True
        )
        assert hole
        _for(session.pump, _SECONDS)
        if session.events == quiet:
            assert _slots(session.snapshot(slots=True), victim) >= 3


def test_the_daemon_shows_current_numbers(victim: _Victim) -> None:
    kernel = kernel_facts()
    prepare()
    probes, reader = Probes(levels=kernel.levels), open_reader(kernel.levels)
    selection = Selection(min_vmpte_kib=16, names=("drift-victim",))
    host = Host(probes, kernel, reader, selection=selection, limits=Limits(8 << 30, 2.0))
    try:
        _until(host.step, lambda: victim.pid in host.sessions, 60)
        _for(host.step, 3.0)
        session = host.sessions[victim.pid]
        before = session.pte_pages
        victim.populate(range(_SLOTS))
        shown = {process.pid: process for process in host.view().processes}[victim.pid]
        assert shown.vm_pte_kib == vm_pte_kib(victim.pid)
        assert shown.snapshot is not None
        assert shown.snapshot.now.vm_pte_kib == shown.vm_pte_kib
        _until(host.step, lambda: session.pte_pages >= before + _SLOTS - 1)
        _for(host.step, 1.0)
        victim.empty()
        _until(host.step, lambda: session.empty >= _SLOTS - 1)
    finally:
        host.close()
        reader.close()
        probes.close()


@pytest.mark.parametrize("command", ["attach", "record", "advise"])
def test_commands_notice_drift_before_they_end(
    victim: _Victim, command: str, tmp_path: Path
) -> None:
    """Two seconds after the change is before the end; the trace says when it was known."""
    trace = tmp_path / "drift.arrows"
    arguments = [_PTESCOPE, command, "-p", str(victim.pid), "-d", "9"]
    arguments += [] if command == "advise" else ["-o", str(trace)]
    with subprocess.Popen(
        [*arguments, *["--json"] * (command != "record")], stdout=subprocess.PIPE, text=True
    ) as program:
        time.sleep(5)
        victim.populate(range(_SLOTS))
        time.sleep(1)
        victim.empty()
        program.wait(30)
        assert program.stdout
        out = program.stdout.read()
    assert program.returncode == 0
    if command != "record":
        (process,) = json.loads(out)["processes"]
        assert process["audit"]["empty_causes"].get("unknown", 0) == 0
        assert process["now"]["empty"] >= _SLOTS - 1
    if command != "advise":
        done = subprocess.run(
            [_PTESCOPE, "replay", "--json", "--at", "8.5", str(trace)],
            capture_output=True,
            text=True,
            check=True,
        )
        (process,) = json.loads(done.stdout)["processes"]
        assert process["now"]["empty"] >= _SLOTS - 1
        assert process["now"]["vm_pte_kib"] == process["now"]["vm_pte_predicted_kib"]
        assert process["audit"]["runs"] == 0


def test_the_shadow_equals_the_page_tables_after_the_reading(victim: _Victim) -> None:
    with attached(victim.pid) as session:
        victim.populate(range(0, _SLOTS, 2), pages=3)
        _for(session.pump, _SECONDS)
        known = truth(victim.pid)
        found = session.snapshot(slots=True)
        inside = range(victim.address, victim.address + _SLOTS * SLOT)
        pages = session.table.pages().entries_by_slot()
        assert sum(refs for slot, refs in pages.items() if slot in inside) >= 3 * _SLOTS // 2 - 3
        assert abs(found.now.pte_pages - known.pte_pages) <= 2  # where it faults meanwhile
