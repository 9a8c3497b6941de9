# SPDX-License-Identifier: GPL-2.0-only
"""The daemon on a whole host: real programs, a storm of forks, limits, an end on SIGTERM."""

import json
import mmap
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from shadow.precompile import prepare
from tests.live.actor import SLOT, Actor
from tools.workloads.postgres import private_postgres
from tools.workloads.redis import private_redis
from tools.workloads.storm import PAGES, Storm
from tracer.census import open_reader
from tracer.daemon.discovery import Selection
from tracer.daemon.host import Host
from tracer.daemon.limits import Limits, memory_bytes
from tracer.daemon.memory_trim import give_back
from tracer.follow.session import Session
from tracer.kernel import kernel_facts
from tracer.probes.stream import Probes

pytestmark = pytest.mark.alone

_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_BASE = 0x10_0000_0000
_NORESERVE = 0x4000  # MAP_NORESERVE, which Python 3.11 does not name
_SECONDS = float(os.environ.get("PTESCOPE_SOAK", "15"))
"""Seconds for which the programs run side by side."""
_CYCLES = 6
"""Fewest cycles of filling and flushing Redis, however slow the machine."""
_FORKS = """
import os, time
end = time.monotonic() + {seconds}
while time.monotonic() < end:
    pid = os.fork()
    if pid == 0:
        bytearray(8 << 20)
        os._exit(0)
    os.waitpid(pid, 0)
time.sleep(60)
"""
_STORM = """
import ctypes, mmap, os, random, threading, time
end = time.monotonic() + 10
area = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area.madvise(mmap.MADV_NOHUGEPAGE)
def work(rounds):
    for _ in range(rounds):
        for page in range(0, 64 << 20, 1 << 14):
            area[page] = 1
        area.madvise(mmap.MADV_DONTNEED)
def last():
    work(5)
    os._exit(0)
children = []
while time.monotonic() < end:
    child = os.fork()
    if child == 0:
        work(random.randint(1, 30))
        kind = random.randrange(4)
        if kind == 0:
            os.execv("/bin/sleep", ["sleep", "1"])
        if kind == 1:
            threading.Thread(target=last).start()
            ctypes.CDLL(None).pthread_exit(None)
        os._exit(0)
    children.append(child)
    if len(children) > 30:  # until then they are zombies
        for child in children[:15]:
            os.waitpid(child, 0)
        del children[:15]
    time.sleep(0.05)
"""


@contextmanager
def _hosted(selection: Selection, *, room: int = 1 << 30, cpu: float = 2.0) -> Iterator[Host]:
    """Follow a host; `room` is the memory that it may use beyond that at the start."""
    kernel = kernel_facts()
    prepare()
    probes, reader = Probes(geometry=kernel.geometry), open_reader(kernel.geometry)
    give_back()  # as the command does, so that the host has no more room than given
    limits = Limits(memory_bytes() + room, cpu)
    host = Host(probes, kernel, reader, selection=selection, limits=limits)
    try:
        yield host
    finally:
        host.close()
        reader.close()
        probes.close()


def _watch(host: Host, until: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.005 if host.step() else 0.05)


def _for(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def _assert_equals_its_census(session: Session) -> None:
    """Compare the PTE pages, and the empty ones; the process must be quiet."""
    while session.take():
        pass
    census = session.reader.census(session.target)
    now = session.snapshot(slots=True)
    assert census.sum_kib == census.vm_pte_kib
    assert now.now.pte_pages == census.pte_pages
    assert census.empty_slots is not None
    assert now.empty_slots == census.empty_slots.tolist()


def _backends(host: Host, parent: int) -> list[int]:
    """Pids of the followed children of a process."""
    children = {child.pid for child in psutil.Process(parent).children()}
    return [pid for pid in host.sessions if pid in children]


def _python(script: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script])


def test_real_programs_side_by_side_equal_their_census() -> None:
    churn = {"LD_PRELOAD": "libjemalloc.so.2", "MALLOC_CONF": "dirty_decay_ms:200"}
    programs = [
        _python(_FORKS.format(seconds=_SECONDS)),
        *(
            subprocess.Popen(
                [sys.executable, "-m", f"tools.workloads.{name}", *arguments],
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
            )
            for name, arguments, environment in (
                ("churn", ["1", str(_SECONDS)], churn),
                ("frames", [str(_SECONDS)], {}),
            )
        ),
    ]
    try:
        with (
            private_redis(MALLOC_CONF="dirty_decay_ms:500") as redis,
            private_postgres() as pg,
            ThreadPoolExecutor(1) as pool,
        ):
            mine = {redis.pid, pg.pid, *(program.pid for program in programs)}
            with _hosted(Selection(min_vmpte_kib=16)) as host:
                _watch(host, lambda: mine <= host.sessions.keys())
                programs.append(pg.load(clients=3, seconds=int(_SECONDS) + 30))
                _watch(host, lambda: len(_backends(host, pg.pid)) > 3)
                mine |= set(_backends(host, pg.pid))
                memory: list[int] = []
                end = time.monotonic() + _SECONDS
                while time.monotonic() < end or len(memory) < _CYCLES:
                    _watch(host, pool.submit(redis.fill, 200_000, 200).done)
                    _watch(host, pool.submit(redis.flush).done)
                    _watch(host, _for(1.5))
                    memory.append(memory_bytes())
                programs[-1].kill()
                _watch(host, _for(4.0))
                # Only the backends of pgbench may have ended.
                assert {redis.pid, pg.pid, *(p.pid for p in programs[:-1])} <= host.sessions.keys()
                for pid in mine & host.sessions.keys():
                    _assert_equals_its_census(host.sessions[pid])
                view = host.view()
                assert view.cost.events > 100_000  # the number depends on the machine
                assert view.cost.sees_events
                assert memory[-1] < max(memory[: len(memory) // 2]) * 1.1
    finally:
        for program in programs:
            program.kill()
            program.wait()


def test_a_process_too_large_for_the_limit_is_counted_and_reported() -> None:
    small, large = Actor(), Actor()
    try:
        small.map(_BASE, 300 * SLOT)
        small.touch(_BASE, 300 * SLOT, SLOT)
        large.map(_BASE, 40_000 * SLOT, flags=mmap.MAP_PRIVATE | _NORESERVE)
        large.touch(_BASE, 40_000 * SLOT, SLOT)
        with _hosted(Selection(), room=32 << 20) as host:
            _watch(host, lambda: small.pid in host.sessions)
            _watch(host, _for(2.0))
            processes = {process.pid: process for process in host.view().processes}
            assert processes[large.pid].following == "counted"
            assert processes[large.pid].snapshot is None
            assert processes[large.pid].vm_pte_kib > 40_000 * 4
            assert any("only counted" in note for note in host.notes())
    finally:
        small.close()
        large.close()


def test_beyond_the_cpu_limit_the_busiest_process_is_sampled_and_then_exact_again() -> None:
    script = (
        "import mmap,time\n"
        "m=mmap.mmap(-1,1<<30,mmap.MAP_PRIVATE|mmap.MAP_ANONYMOUS)\n"
        "m.madvise(mmap.MADV_NOHUGEPAGE)\n"
        "end=time.monotonic()+8\n"
        "while time.monotonic()<end:\n"
        "  for p in range(0,1<<30,1<<16): m[p]=1\n"
        "  for p in range(0,1<<30,1<<20): m.madvise(mmap.MADV_DONTNEED,p,1<<20)\n"
        "time.sleep(60)\n"
    )
    program = _python(script)
    try:
        with _hosted(Selection(names=("python*",)), cpu=0.01) as host:
            _watch(host, lambda: program.pid in host.sessions)
            _watch(host, lambda: any("sampled" in note for note in host.notes()), 30)
            watched = {p.pid: p.watched for p in host.view().processes}[program.pid]
            assert 0.0 < watched <= 1.0
            _watch(host, _for(10.0))
            _watch(host, lambda: not host.resting(program.pid))
            _assert_equals_its_census(host.sessions[program.pid])
    finally:
        program.kill()
        program.wait()


def test_the_daemon_survives_and_counts_storms_of_forks_and_faults() -> None:
    # A thousand processes that fork, faults on all CPUs, and a sudden end of all.
    forks = (
        "import os,time\n"
        "for _ in range(999):\n"
        "  if os.fork()==0: break\n"
        "while True:\n"
        "  if (pid:=os.fork())==0:\n"
        "    bytearray(8<<20); os._exit(0)\n"
        "  os.waitpid(pid,0); time.sleep(1)\n"
    )
    storms = [Storm() for _ in os.sched_getaffinity(0)]
    bystander = Actor()
    bystander.map(_BASE, 64 * SLOT)
    bystander.touch(_BASE, 64 * SLOT, SLOT)
    forking = subprocess.Popen([sys.executable, "-c", forks], start_new_session=True)
    try:
        with _hosted(Selection(min_vmpte_kib=32)) as host:
            mine = {bystander.pid, *(storm.pid for storm in storms)}
            _watch(host, lambda: mine <= host.sessions.keys())
            _watch(host, lambda: len(host.view().processes) > 900)
            for storm in storms:
                storm.start(60)
            for _ in range(10):
                _watch(host, _for(0.5))
                bystander.advise(_BASE, SLOT, mmap.MADV_DONTNEED)
                bystander.touch(_BASE, SLOT // 2)
            bystander.advise(_BASE, SLOT // 2, mmap.MADV_DONTNEED)
            os.killpg(forking.pid, signal.SIGKILL)
            assert all(int(storm.answer.readline()) > 0 for storm in storms)
            _watch(host, lambda: len(host.view().processes) < 100)
            _watch(host, _for(2.0))
            for pid in mine:
                _assert_equals_its_census(host.sessions[pid])
            cost = host.view().cost
            assert cost.events + cost.lost >= len(storms) * 60 * PAGES
    finally:
        with suppress(ProcessLookupError):
            os.killpg(forking.pid, signal.SIGKILL)
        forking.wait()
        for storm in storms:
            storm.close()
        bystander.close()


def test_the_command_serves_records_and_ends(tmp_path: Path) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    heard = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
    actor = Actor()
    actor.map(_BASE, 300 * SLOT)
    actor.touch(_BASE, 300 * SLOT, SLOT)
    with subprocess.Popen(
        [
            *(_PTESCOPE, "daemon", "--listen", "127.0.0.1:0", "--json", "--name", "python*"),
            *("--record-dir", str(tmp_path), "--record-size", "4K", "--record-keep", "2"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=heard,
    ) as daemon:
        try:
            assert daemon.stderr
            address = daemon.stderr.readline().split()[-1]
            deadline = time.monotonic() + 30
            while f'pid="{actor.pid}"' not in (text := _get(address)) or "empty_pte" not in text:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            assert "events come in" in _healthy(address.replace("/metrics", "/healthz"))
            for _ in range(300):
                actor.advise(_BASE, SLOT // 2, 4)
                actor.touch(_BASE, SLOT // 2)
            time.sleep(2)
            for half in range(2):
                actor.advise(_BASE + half * (SLOT // 2), SLOT // 2, 4)
            time.sleep(1)
        finally:
            begin = time.monotonic()
            daemon.send_signal(signal.SIGTERM)
            out, errors = daemon.communicate(timeout=20)
            took = time.monotonic() - begin
            actor.close()
    assert daemon.returncode == 0, errors
    assert took < 20  # a service manager kills it after 90 s
    assert _messages(manager) == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]
    (process,) = [p for p in json.loads(out)["processes"] if p["process"]["pid"] == actor.pid]
    assert process["now"]["empty"] >= 1
    assert process["audit"]["empty_missing"] == process["audit"]["empty_extra"] == 0
    traces = sorted(tmp_path.glob("*.arrows"))
    assert 1 <= len(traces) <= 2
    for trace in traces:
        done = subprocess.run([_PTESCOPE, "replay", "--json", str(trace)], capture_output=True)
        assert done.returncode == 0, done.stderr
    replayed = {p["process"]["pid"]: p for p in json.loads(done.stdout)["processes"]}
    assert replayed[actor.pid]["now"]["empty"] == process["now"]["empty"]


def _messages(manager: socket.socket) -> list[bytes]:
    """The messages of a service to its manager, without repetitions."""
    received: list[bytes] = []
    manager.setblocking(False)
    with manager, suppress(BlockingIOError):
        while True:
            received.append(manager.recv(64))
    return list(dict.fromkeys(received))


def _get(address: str) -> str:
    with urllib.request.urlopen(address, timeout=20) as answer:
        text: str = answer.read().decode()
    return text


def _healthy(address: str) -> str:
    """The answer of /healthz once the daemon is healthy."""
    for _ in range(50):
        try:
            return _get(address)
        except urllib.error.HTTPError:
            time.sleep(0.2)
    pytest.fail("never healthy")


def test_zombies_many_clients_and_odd_variables_do_not_end_the_daemon(tmp_path: Path) -> None:
    """Processes that end, rest, call execve and lose their main threads; clients of all kinds."""
    odd = os.environ | {"NOTIFY_SOCKET": "/no/such/socket", "WATCHDOG_USEC": "soon"}
    command = [_PTESCOPE, "daemon", "--listen", "127.0.0.1:0", "--max-cpu", "1"]
    actor = Actor()
    actor.map(_BASE, 300 * SLOT)
    actor.touch(_BASE, 300 * SLOT, SLOT)
    log = tmp_path / "log"
    with (
        log.open("w") as stderr,
        subprocess.Popen([*command, "--min-vmpte", "64K"], stderr=stderr, env=odd) as daemon,
        ExitStack() as clients,
    ):
        storm = subprocess.Popen([sys.executable, "-c", _STORM])
        try:
            deadline = time.monotonic() + 60
            while "/metrics\n" not in (said := log.read_text()):
                assert daemon.poll() is None
                assert time.monotonic() < deadline, said
                time.sleep(0.05)
            (address,) = re.findall(r"http://\S+/metrics", said)
            port = int(address.split(":")[2].split("/")[0])
            for _ in range(300):
                clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            with ThreadPoolExecutor(50) as pool:
                texts = list(pool.map(_get, [address] * 200))
            assert all("ptescope_processes" in text for text in texts)
            storm.wait(60)
            deadline = time.monotonic() + 30
            while f'pid="{actor.pid}"' not in (text := _get(address)) or "empty_pte" not in text:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            assert "ptescope_self_failures_total 0.0" in text
        finally:
            storm.kill()
            storm.wait()
            actor.close()
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(timeout=30)
    said = log.read_text()
    assert daemon.returncode == 0, said
    assert "Traceback" not in said
    assert said.count("WATCHDOG_USEC") == 1
