# SPDX-License-Identifier: GPL-2.0-only
"""A process with an ended main thread and a running one is followed like any other."""

import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shadow.errors import NoSuchTargetError
from shadow.precompile import prepare
from tests.live.actor import SLOT, Actor
from tests.live.attached import attached, truth
from tracer.census import CountedReader, open_reader
from tracer.daemon.discovery import Selection
from tracer.daemon.host import Host
from tracer.daemon.limits import Limits
from tracer.kernel import kernel_facts
from tracer.probes.stream import Probes
from tracer.process.find import find_by_name
from tracer.process.target import open_target
from tracer.procfs import living_task, vm_pte_kib

_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_BASE = 0x10_0000_0000


def _state(pid: int) -> str:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat[stat.rindex(")") + 2]


def _await_end_of_main_thread(pid: int) -> None:
    deadline = time.monotonic() + 10
    while _state(pid) != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def actor() -> Iterator[Actor]:
    """An actor without a main thread, with PTE pages in eight slots, six of them in use."""
    actor = Actor(main_thread_ends=True)
    try:
        _await_end_of_main_thread(actor.pid)
        actor.map(_BASE, 8 * SLOT)
        actor.advise(_BASE, 8 * SLOT, mmap.MADV_NOHUGEPAGE)
        actor.touch(_BASE, 8 * SLOT, SLOT)
        for slot in (0, 1):
            actor.advise(_BASE + slot * SLOT, SLOT // 2, mmap.MADV_DONTNEED)
        yield actor
    finally:
        actor.close()


def test_the_process_can_be_opened_as_a_target(actor: Actor) -> None:
    target = open_target(actor.pid)
    task = living_task(actor.pid)
    assert task.parent.name == "task"
    assert target.alive()
    assert target.identify().exe == str((task / "exe").readlink())
    assert target.identify().comm == Path(f"/proc/{actor.pid}/comm").read_text().strip()
    allocator = target.describe().allocator
    assert allocator is not None
    assert allocator.name == "glibc"
    assert _BASE in target.vmas()["start"]
    assert target.program_break() > 0
    assert target.mapped_at([_BASE], SLOT) == ["anonymous"]
    status = (task / "status").read_text()
    assert f"VmPTE:\t{vm_pte_kib(actor.pid):8} kB" in status


def test_the_process_is_found_by_the_name_of_its_executable(tmp_path: Path) -> None:
    copy = tmp_path / "no-main-thread"
    copy.write_bytes(Path(sys.executable).resolve().read_bytes())
    copy.chmod(0o700)
    script = (
        "import ctypes,threading,time\n"
        "open('/proc/self/comm','w').write('other')\n"
        "threading.Thread(target=time.sleep,args=(60,)).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    child = subprocess.Popen([copy, "-c", script])
    try:
        _await_end_of_main_thread(child.pid)
        assert find_by_name("no-main-thread") == child.pid
    finally:
        child.kill()
        child.wait()


def test_an_exact_and_a_counted_census_equal_vm_pte(actor: Actor) -> None:
    kernel, target = kernel_facts(), open_target(actor.pid)
    exact = open_reader(kernel.geometry)
    try:
        census = exact.census(target)
    finally:
        exact.close()
    assert census.exact
    assert census.sum_kib == census.vm_pte_kib
    assert census.empty_slots is not None
    assert set(census.empty_slots.tolist()) >= {_BASE, _BASE + SLOT}
    counted = CountedReader(kernel.geometry, "as asked").census(target)
    assert counted.pte_pages == census.pte_pages
    assert counted.vm_pte_kib == census.vm_pte_kib


def test_census_all_lists_the_process(actor: Actor) -> None:
    done = subprocess.run(
        [_PTESCOPE, "census", "--all", "--json"], capture_output=True, text=True, check=True
    )
    pids = {process["process"]["pid"] for process in json.loads(done.stdout)["processes"]}
    assert actor.pid in pids


@pytest.mark.parametrize("exact", [True, False])
def test_the_shadow_equals_the_page_tables_of_the_process(actor: Actor, exact: bool) -> None:
    with attached(actor.pid, exact=exact) as session:
        actor.advise(_BASE + 2 * SLOT, SLOT // 2, mmap.MADV_DONTNEED)
        actor.touch(_BASE, SLOT // 2)
        session.pump()
        assert not session.ended
        session.audit()
        found, known = session.snapshot(), truth(int(living_task(actor.pid).name))
        assert (found.now.pte_pages, found.now.empty) == (known.pte_pages, known.empty)
        assert found.audit.runs == 1
        assert found.audit.empty_missing == found.audit.empty_extra == 0
        assert found.now.vm_pte_kib == found.now.vm_pte_predicted_kib


def test_following_continues_when_the_main_thread_ends() -> None:
    script = (
        "import ctypes,sys,threading,time\n"
        "def work():\n"
        "  while True: time.sleep(0.05); bytearray(1<<20)\n"
        "threading.Thread(target=work).start()\n"
        "sys.stdin.readline(); ctypes.CDLL(None).pthread_exit(None)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
    try:
        time.sleep(0.3)
        with attached(child.pid) as session:
            assert child.stdin
            child.stdin.write(b"\n")
            child.stdin.flush()
            _await_end_of_main_thread(child.pid)
            before = session.events
            deadline = time.monotonic() + 2
            while time.monotonic() < deadline:
                session.pump()
                time.sleep(0.02)
            assert not session.ended
            assert session.events > before
            session.audit()
            assert session.audits.runs == 1
            child.kill()
            while not session.ended:
                assert time.monotonic() < deadline + 10
                session.pump()
    finally:
        child.kill()
        child.wait()


def test_execve_of_another_thread_is_the_same_process_with_a_new_program(actor: Actor) -> None:
    with attached(actor.pid) as session:
        actor.begin("exec", 60)
        deadline = time.monotonic() + 10
        while session.snapshot().process.comm != "sleep":
            assert time.monotonic() < deadline
            session.pump()
        assert _state(actor.pid) in "SR"
        session.audit()
        found = session.snapshot()
        assert found.window.events["exec"] == 1
        assert found.audit.runs == 1
        assert found.audit.pte_pages_diff == 0
        assert not session.ended


def test_attach_follows_until_the_last_thread_ends(actor: Actor) -> None:
    command = [_PTESCOPE, "attach", "--json", "-p", str(actor.pid), "-d", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (process,) = json.loads(done.stdout)["processes"]
    assert process["kernel"]["seed"] == "census"
    assert process["audit"]["runs"] == 1
    assert process["process"]["allocator"]["name"] == "glibc"
    assert process["now"]["vm_pte_kib"] == process["now"]["vm_pte_predicted_kib"]


def test_the_daemon_follows_the_process(actor: Actor) -> None:
    kernel = kernel_facts()
    prepare()
    probes, reader = Probes(geometry=kernel.geometry), open_reader(kernel.geometry)
    selection = Selection(min_vmpte_kib=16)
    host = Host(probes, kernel, reader, selection=selection, limits=Limits(8 << 30, 2.0))
    try:
        deadline = time.monotonic() + 30
        while actor.pid not in host.sessions:
            assert time.monotonic() < deadline
            host.step()
        for _ in range(40):
            host.step()
            time.sleep(0.05)
        assert actor.pid in host.sessions
        seen = {process.pid: process for process in host.view().processes}[actor.pid]
        assert seen.vm_pte_kib == vm_pte_kib(actor.pid)
        assert seen.snapshot is not None
        assert seen.snapshot.now.empty >= 2
    finally:
        host.close()
        reader.close()
        probes.close()


def test_a_zombie_without_running_threads_has_ended() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(NoSuchTargetError, match="zombie"):
        open_target(child.pid)
    with pytest.raises(ProcessLookupError):
        vm_pte_kib(child.pid)
    child.wait()
