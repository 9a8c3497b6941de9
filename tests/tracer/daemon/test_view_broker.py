# SPDX-License-Identifier: GPL-2.0-only
"""Views for other threads: identical requests share one."""

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest

from shadow.errors import PtescopeError
from shadow.host_view import HostView
from tests.shadow.hosts import host_view
from tracer.daemon import view_broker as desks
from tracer.daemon.view_broker import ViewBroker


def _view(pid: int | None) -> HostView:
    now = time.monotonic_ns()
    return replace(host_view(), time_ns=now, slots={pid: 1} if pid else {}, slots_of=pid)


@contextmanager
def _answering(broker: ViewBroker, every: float = 0.001) -> Iterator[None]:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            broker.answer()
            broker.wait(every)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_each_client_gets_the_slots_it_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty requests at once, for ten processes and for none."""
    monkeypatch.setattr(desks, "_PATIENCE", 60.0)
    broker = ViewBroker(_view)
    with _answering(broker), ThreadPoolExecutor(40) as pool:

        def ask(number: int) -> None:
            pid = number % 11 or None
            for _ in range(50):
                view = broker.ask(pid)
                assert view.slots_of == pid
                assert view.slots == ({pid: 1} if pid else {})

        list(pool.map(ask, range(40)))


def test_simultaneous_requests_share_one_view() -> None:
    made = itertools.count()

    def view(pid: int | None) -> HostView:
        next(made)
        time.sleep(0.05)
        return _view(pid)

    broker = ViewBroker(view)
    with _answering(broker), ThreadPoolExecutor(100) as pool:
        views = list(pool.map(lambda _: broker.ask(), range(100)))
    assert len(views) == 100
    assert next(made) <= 2


def test_a_failed_view_fails_only_its_requests() -> None:
    def view(pid: int | None) -> HostView:
        if pid == 7:
            raise KeyError(pid)
        return _view(pid)

    broker = ViewBroker(view)
    with _answering(broker):
        with pytest.raises(PtescopeError, match="KeyError"):
            broker.ask(7)
        assert broker.ask(8).slots_of == 8
        assert broker.ask().slots == {}


def test_pending_requests_fail_when_the_watcher_ends() -> None:
    broker = ViewBroker(_view)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(broker.ask, pid) for pid in (None, 5)]
        time.sleep(0.2)
        broker.close(PtescopeError("it has ended"))
        for each in waiting:
            with pytest.raises(PtescopeError, match="it has ended"):
                each.result(5)
    begin = time.monotonic()
    with pytest.raises(PtescopeError, match="it has ended"):
        broker.ask()
    assert time.monotonic() - begin < 1


def test_a_request_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "_PATIENCE", 0.1)
    broker = ViewBroker(_view)
    with pytest.raises(TimeoutError, match="not read within 10 s"):
        broker.ask()
    with _answering(broker):
        assert broker.ask().slots_of is None
