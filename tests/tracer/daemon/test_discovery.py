# SPDX-License-Identifier: GPL-2.0-only
"""Discovery and selection of processes."""

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tracer.daemon.discovery import Processes, Seen, Selection

_SEEN = Seen(7, 100, "redis-server", "/system.slice/redis.service", 7, 4096)


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(), True),
        (Selection(min_vmpte_kib=4097), False),
        (Selection(names=("redis*",)), True),
        (Selection(names=("mysqld", "postgres")), False),
        (Selection(cgroups=("/system.slice",)), True),
        (Selection(cgroups=("/system.slice/redis.service/",)), True),
        (Selection(cgroups=("/system",)), False),
        (Selection(cgroups=("/*/redis.service",)), True),
        (Selection(names=("redis*",), cgroups=("/user.slice",)), False),
    ],
)
def test_patterns_select_processes(selection: Selection, taken: bool) -> None:
    assert selection.takes(_SEEN) is taken


def test_a_reused_pid_is_another_process() -> None:
    assert replace(_SEEN, start_time=101).identity != _SEEN.identity


def test_processes_come_and_go() -> None:
    processes = Processes()
    processes.look(0.0)
    own = processes.seen[os.getpid()]
    assert own.vm_pte_kib > 0
    assert own.namespace_pid == own.pid
    assert 2 not in processes.seen, "kthreadd has no address space"
    child = subprocess.Popen(["sleep", "60"])
    try:
        processes.look(1.0)
        assert processes.seen[child.pid].identity[0] == child.pid
    finally:
        child.kill()
        child.wait()
    processes.look(2.0)
    assert child.pid not in processes.seen


def test_a_counted_process_that_ends_is_forgotten() -> None:
    processes = Processes()
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert processes.look_at(child.pid)
    finally:
        child.kill()
        child.wait()
    processes.look(1.0)
    assert child.pid not in processes.seen


def test_changes_are_found_within_ten_seconds() -> None:
    processes = Processes()
    child = subprocess.Popen(["sh", "-c", "read line; exec sleep 60"], stdin=subprocess.PIPE)
    comm = Path(f"/proc/{child.pid}/comm")
    try:
        while comm.read_text() != "sh\n":
            time.sleep(0.01)
        processes.look(0.0)
        assert processes.seen[child.pid].comm == "sh"
        assert child.stdin
        child.stdin.write(b"\n")
        child.stdin.close()
        while comm.read_text() != "sleep\n":
            time.sleep(0.01)
        for now in range(1, 11):
            processes.look(float(now))
        assert processes.seen[child.pid].comm == "sleep"
    finally:
        child.kill()
        child.wait()
