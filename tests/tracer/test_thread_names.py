# SPDX-License-Identifier: GPL-2.0-only
"""Names of threads: looked up while they run, kept after they have ended."""

import ctypes
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shadow.events import EVENT, EventBatch, Kind
from tracer.follow.thread_names import ThreadNames

_PR_SET_NAME = 15
_NO_SUCH_THREAD = 1 << 22


def _batch(*rows: tuple[Kind, int, str]) -> EventBatch:
    """Events: kind, tid, and the name that a THREAD event carries."""
    made = []
    for kind, tid, name in rows:
        address, length = struct.unpack("<2Q", name.encode().ljust(16, b"\0"))
        made.append((1, address, length, os.getpid(), tid, kind, 0, 0))
    return np.array(made, EVENT)


def _rename(name: str) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


@pytest.fixture(autouse=True)
def _own_name() -> Iterator[None]:
    before = Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text().strip()
    yield
    _rename(before)


def test_an_ending_thread_leaves_its_name_and_its_event_goes_no_further() -> None:
    threads = ThreadNames(os.getpid())
    events = _batch((Kind.FAULT, _NO_SUCH_THREAD, ""), (Kind.THREAD, _NO_SUCH_THREAD, "worker-1"))
    others = threads.take(events)
    assert others["kind"].tolist() == [Kind.FAULT]
    assert threads.names == {_NO_SUCH_THREAD: "worker-1"}
    assert not threads._again


def test_a_running_thread_is_looked_up_at_its_first_event_and_after_execve() -> None:
    tid, threads = threading.get_native_id(), ThreadNames(os.getpid())
    _rename("before")
    threads.take(_batch((Kind.FAULT, tid, "")))
    assert threads.names == {tid: "before"}
    _rename("after")
    threads.take(_batch((Kind.FAULT, tid, "")))
    assert threads.names == {tid: "before"}
    threads.take(_batch((Kind.EXEC, tid, "")))
    assert threads.names == {tid: "after"}


def test_threads_that_have_ended_take_no_room() -> None:
    threads = ThreadNames(os.getpid())
    for tid in range(_NO_SUCH_THREAD, _NO_SUCH_THREAD + 10_000):
        threads.take(_batch((Kind.FAULT, tid, ""), (Kind.THREAD, tid, "short")))
    assert not threads._running
    assert len(threads.names) == 4096


def test_the_end_looks_everything_up_again() -> None:
    tid, threads = threading.get_native_id(), ThreadNames(os.getpid())
    _rename("before")
    threads.take(_batch((Kind.FAULT, tid, "")))
    assert threads.poll()
    _rename("after")
    assert not threads.poll()
    assert threads.poll(last=True)
    assert threads.names == {tid: "after"}


def test_many_names_are_reported_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("tracer.follow.thread_names.time.monotonic", lambda: now)
    threads = ThreadNames(os.getpid())

    def seconds_to_next() -> float:
        nonlocal now
        begin = now
        while not threads.poll():
            now += 0.1
        return now - begin

    for tid in range(_NO_SUCH_THREAD, _NO_SUCH_THREAD + 640):
        threads.take(_batch((Kind.THREAD, tid, "many")))
    assert seconds_to_next() == 0
    threads.take(_batch((Kind.THREAD, 1, "one more")))
    assert seconds_to_next() > 5
    threads.take(_batch((Kind.THREAD, 1, "another")))
    assert threads.poll(last=True)
