# SPDX-License-Identifier: GPL-2.0-only
"""An error of one process ends neither the daemon nor the following of others.

The tests use a real `Host` with stand-ins for probes and reader, so they need no rights. The
processes are real children.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np
import pytest

from shadow.errors import UnsupportedHostError
from shadow.events import EVENT, EventBatch
from shadow.geometry import X86_64
from shadow.policy import Policy
from shadow.table.page_set import Pages
from tracer.daemon import host as hosts
from tracer.daemon.discovery import Selection
from tracer.daemon.host import Host
from tracer.daemon.limits import Limits
from tracer.follow.session import Session
from tracer.kernel import KernelFacts
from tracer.probes.progress import Progress

_KERNEL = KernelFacts(
    "6.18.0", Policy.PT_RECLAIM, X86_64, "never", {"always": (), "madvise": ()}, 65530
)
_NONE = np.empty(0, EVENT)


class _Probes:
    """Probes that record the traced pids, and have no events."""

    class attachments:  # noqa: N801
        @staticmethod
        def by_backend() -> dict[str, list[str]]:
            return {}

    class ring:  # noqa: N801
        size = 4096

        @staticmethod
        def backlog() -> int:
            return 0

    def __init__(self) -> None:
        self.traced: set[int] = set()

    def add(self, pid: int, *, follow: bool = False) -> None:
        assert not follow
        self.traced.add(pid)

    def remove(self, pid: int) -> EventBatch:
        self.traced.discard(pid)
        return _NONE

    def progress(self, pid: int) -> Progress:
        return Progress.of([], pid)

    def added_at(self, pid: int) -> int:
        assert pid in self.traced
        return 0

    def set_space(self, pid: int, space: int) -> None:
        assert pid in self.traced
        assert space == 0

    def poll(self) -> list[int]:
        return sorted(self.traced)

    def read(self, pid: int) -> EventBatch:
        if pid not in self.traced:
            raise KeyError(pid)
        return _NONE

    missed = 0

    def count_missed(self) -> None:
        pass

    def unreported_loss(self, pid: int, _now: int) -> EventBatch:
        assert pid in self.traced
        return _NONE


class _Reader:
    exact, why = True, "stand-in"

    def vmas(self, target: Any) -> Any:
        return target.vmas()

    def space(self, _target: Any) -> int:
        return 0

    def pages(self, *_: Any, **__: Any) -> Pages:
        none = np.empty(0, np.int64)
        return Pages(
            slots=none,
            present=np.empty((0, 8), np.uint64),
            huge=none,
            huge_kind=np.empty(0, np.uint8),
            exact=True,
            pmd_bases=none,
            pud_bases=none,
            within=None,
        )

    def page_table_kib(self, _targets: Any) -> dict[int, int]:
        return {}

    def forget(self, _target: Any) -> None:
        pass


def _sleeper() -> subprocess.Popen[bytes]:
    """An idle process with a unique name."""
    script = "open('/proc/self/comm','w').write('isolated'); print(flush=True); input()"
    program = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert program.stdout
    program.stdout.readline()
    return program


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    programs = [_sleeper() for _ in range(3)]
    yield programs
    for program in programs:
        program.kill()
        program.communicate()


@pytest.fixture
def host(children: list[subprocess.Popen[bytes]]) -> Iterator[Host]:
    """A host that follows only the children, by their name."""
    selection = Selection(names=("isolated",), min_vmpte_kib=16)
    made = Host(
        _Probes(), _KERNEL, _Reader(), selection=selection, limits=Limits(1 << 40, 10.0),  # type: ignore[arg-type]
    )  # fmt: skip
    made._heartbeat.beat = lambda now: None  # type: ignore[method-assign]  # noqa: ARG005
    _steps(made, lambda: {child.pid for child in children} <= made.sessions.keys())
    yield made
    made.close()


def _steps(host: Host, until: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        host.step()
        time.sleep(0.01)


_ERRORS = [KeyError(7), IndexError("x"), MemoryError(), ValueError("y"), RecursionError(),
           UnsupportedHostError("Cannot follow mm_struct.pgd"), ZeroDivisionError()]  # fmt: skip


@pytest.mark.parametrize("error", _ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("method", ["pump", "audit", "snapshot", "rest", "look_soon", "stop"])
def test_an_error_of_one_process_does_not_affect_the_others(
    host: Host,
    children: list[subprocess.Popen[bytes]],
    method: str,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    victim, *others = [child.pid for child in children]

    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(host.sessions[victim], method, fail)
    monkeypatch.setattr(hosts, "_LIST_EVERY", 0.05)
    for _ in range(10):
        host.step()
        host.audit()
        view = host.view()
        time.sleep(0.02)
    assert set(others) <= host.sessions.keys()
    assert {process.pid for process in view.processes} >= set(others)
    if method in ("pump", "audit", "snapshot"):
        assert victim not in host.sessions
        assert victim not in host._probes.traced  # type: ignore[attr-defined]
        assert host.view().cost.failures == 1
        assert any(type(error).__name__ in note for note in host.notes())


def test_a_process_is_dropped_even_if_detaching_fails(
    host: Host, children: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = children[0]

    def fail() -> NoReturn:
        raise KeyError(victim.pid)

    for method in ("rest", "end"):
        monkeypatch.setattr(host.sessions[victim.pid], method, fail)
    victim.kill()
    victim.wait()
    _steps(host, lambda: victim.pid not in host.sessions)
    assert children[1].pid in host.sessions


def test_a_sampled_process_that_becomes_a_zombie_does_not_stop_the_host(
    host: Host, children: list[subprocess.Popen[bytes]]
) -> None:
    """A sampled process ends during its pause and stays a zombie; then its turn comes."""
    victim = children[0]
    now = time.monotonic()
    host._sampling.save({victim.pid: 1e6}, now)
    for pid in host._sampling.due(now):
        host._take_turn(pid)
    assert host.resting(victim.pid)
    assert victim.pid not in host._probes.traced  # type: ignore[attr-defined]
    victim.kill()
    os.waitid(os.P_PID, victim.pid, os.WEXITED | os.WNOWAIT)
    for pid in host._sampling.due(now + 10):
        host._take_turn(pid)
    assert victim.pid not in host.sessions
    for _ in range(70):
        host._next_list = 0.0
        host.step()
    assert victim.pid not in host.sessions
    assert {child.pid for child in children[1:]} <= host.sessions.keys()
    assert host.view().cost.failures == 0


def test_a_session_between_samples_takes_no_events(
    host: Host, children: list[subprocess.Popen[bytes]]
) -> None:
    session: Session = host.sessions[children[0].pid]
    session.rest()
    assert session.take() == 0
    session.rest()
    session.resume()
    assert children[0].pid in host._probes.traced  # type: ignore[attr-defined]


def test_a_process_that_cannot_be_read_at_first_is_skipped_and_named(
    host: Host, children: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise AssertionError("odd")

    monkeypatch.setattr(Session, "seed", fail)
    late = _sleeper()
    try:
        _steps(host, lambda: any("AssertionError" in note for note in host.notes()))
        assert late.pid not in host.sessions
        assert {child.pid for child in children} <= host.sessions.keys()
    finally:
        late.kill()
        late.communicate()


def test_an_empty_process_name_does_not_shift_other_fields() -> None:
    """A name may be any text; the fields after it in status are not part of it."""
    script = "open('/proc/self/comm','w').write('\\n'); import time; time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", script])
    try:
        deadline = time.monotonic() + 10
        from tracer.daemon.discovery import Processes

        seen = Processes().look_at(child.pid)
        while seen and seen.comm.startswith("python"):
            assert time.monotonic() < deadline
            seen = Processes().look_at(child.pid)
        assert seen
        assert "Umask" not in seen.comm
    finally:
        child.kill()
        child.wait()
