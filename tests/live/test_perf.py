# SPDX-License-Identifier: GPL-2.0-only
"""An imported perf recording has the same PTE pages as a live run of ptescope."""

import mmap
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shadow.replay import Question, replay_one
from tests.live.actor import SLOT, Actor
from tests.live.attached import attached
from tracer.cli import main

_BASE = 0x10_0000_0000
_END = _BASE + 16 * SLOT
_EVENTS = (
    "exceptions:page_fault_user,exceptions:page_fault_kernel,sched:sched_process_exec,"
    + ",".join(
        f"syscalls:sys_{side}_{call}"
        for call in ("madvise", "mmap", "munmap", "mremap", "mprotect", "brk")
        for side in ("enter", "exit")
    )
)
_FIELDS = "comm,pid,tid,cpu,time,event,trace"


def test_an_imported_recording_equals_the_live_run(tmp_path: Path) -> None:
    data, script, trace = (tmp_path / name for name in ("perf.data", "script.txt", "t.arrows"))
    actor = Actor()
    try:
        actor.map(_BASE, 8 * SLOT)  # before perf starts: perf infers it from faults
        actor.advise(_BASE, 8 * SLOT, mmap.MADV_NOHUGEPAGE)
        with attached(actor.pid) as session:
            with _perf_record(actor.pid, data):
                actor.touch(_BASE, 8 * SLOT)
                actor.map(_BASE + 8 * SLOT, 8 * SLOT)
                actor.advise(_BASE + 8 * SLOT, 8 * SLOT, mmap.MADV_NOHUGEPAGE)
                actor.touch(_BASE + 8 * SLOT, 8 * SLOT)
                for half in range(2, 22):
                    actor.advise(_BASE + half * SLOT // 2, SLOT // 2, mmap.MADV_DONTNEED)
                actor.advise(_BASE + 11 * SLOT, SLOT, mmap.MADV_DONTNEED)
                assert actor.do("munmap", _BASE + 13 * SLOT, 2 * SLOT) == 0
            session.stop()
            live = session.snapshot(slots=True)
    finally:
        actor.close()
    with script.open("w") as file:
        subprocess.run(
            [
                *("perf", "script", "-i", data, "--ns", "--header"),
                *("--show-lost-events", "-F", _FIELDS),
            ],
            stdout=file,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    assert main(["import", str(script), "-o", str(trace)]) == 0
    (found,) = replay_one(str(trace), Question(slots=True)).followed
    assert found.snapshot.process.pid == live.process.pid
    assert found.snapshot.kernel.release == live.kernel.release
    assert found.snapshot.kernel.seed == "none"
    assert found.snapshot.kernel.policy == live.kernel.policy
    assert any("VMAs are unknown" in note for note in found.snapshot.notes)
    assert _within(live.empty_slots) == _within(found.snapshot.empty_slots) != []


@contextmanager
def _perf_record(pid: int, data: Path) -> Iterator[None]:
    """Record the process with perf during this block; the recording is complete after it."""
    control, to_perf = os.pipe()
    answer, from_perf = os.pipe()
    perf = subprocess.Popen(
        [
            # perf mounts tracefs if it is not mounted; a mount namespace hides that mount.
            # For build IDs, perf would enter the mount namespace of the process, leave a chroot
            # by that, and abort.
            *("unshare", "--mount", "perf", "record", "-q", "--no-buildid"),
            *("-c", "1", "-D", "-1", "-o", str(data), "-e", _EVENTS),
            *(f"--control=fd:{control},{from_perf}", "-p", str(pid)),
        ],
        pass_fds=(control, from_perf),
    )
    for end in (control, from_perf):
        os.close(end)  # if perf fails, its pipes close and nothing waits for it
    os.write(to_perf, b"enable\n")
    assert os.read(answer, 5).startswith(b"ack")
    yield
    perf.send_signal(signal.SIGINT)
    perf.wait()
    for end in (to_perf, answer):
        os.close(end)


def _within(slots: list[int] | None) -> list[int]:
    assert slots is not None
    return [slot for slot in slots if _BASE <= slot < _END]
