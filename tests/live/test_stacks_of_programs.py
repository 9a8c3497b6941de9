# SPDX-License-Identifier: GPL-2.0-only
"""Stacks of Redis, of a Python program, and of programs that end; and their replays."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.live.attached import watching
from tests.live.stacks import functions, known_program, report
from tools.workloads.redis import private_redis

_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_FIRST_FUNCTIONS = {"_start", "__clone3", "clone3"}


def _following(*arguments: str) -> "subprocess.Popen[str]":
    """Run `ptescope attach`; returns once it follows."""
    following = subprocess.Popen(
        [_PTESCOPE, "attach", "--json", "--stacks", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert following.stderr
    for line in following.stderr:
        if "following" in line:
            return following
    raise AssertionError(following.communicate())


def _process(text: str) -> dict[str, Any]:
    (process,) = json.loads(text)["processes"]
    found: dict[str, Any] = process
    return found


def test_99_percent_of_the_stacks_of_redis_are_complete_and_a_replay_is_equal(
    tmp_path: Path,
) -> None:
    trace = tmp_path / "redis.arrows"
    with (
        private_redis(MALLOC_CONF="dirty_decay_ms:1000,background_thread:true") as redis,
        _following("-p", str(redis.pid), "-o", str(trace)) as following,
    ):
        load = [
            "redis-benchmark",
            "-s",
            str(redis.socket),
            "-t",
            "set",
            "-n",
            "800000",
            "-r",
            "800000",
        ]
        subprocess.run([*load, "-d", "300", "-P", "16"], capture_output=True, check=True)
        redis.flush()
        time.sleep(4)
        following.send_signal(signal.SIGINT)
        text, _ = following.communicate(timeout=120)
    replayed = subprocess.run(
        [_PTESCOPE, "replay", "--json", trace], capture_output=True, text=True, check=True
    )
    assert replayed.stdout == text
    found = _process(text)["stacks"]
    totals = found["totals"]
    assert totals["unwound"] == totals["taken"] > 100
    assert totals["sure_taken"] == totals["sure"] > 100
    assert totals["lost"] == totals["unread"] == 0
    assert totals["complete"] >= 0.99 * totals["unwound"]
    assert totals["unwind_ns"] > 0
    whole = [stack for stack in found["stacks"] if stack["complete"]]
    outermost = [found["frames"][stack["frames"][-1]] for stack in whole]
    # Without libc6-dbg, nothing names the first function of a thread.
    names = {frame["function"] or Path(frame["module"]).name for frame in outermost}
    assert names <= _FIRST_FUNCTIONS | {"libc.so.6"}
    pages = [group for group in found["pages"] if group["emptied_stack"] is not None]
    empty = _process(text)["now"]["empty"]
    assert sum(group["pte_pages"] for group in found["pages"]) == empty
    assert sum(group["pte_pages"] for group in pages) >= 0.99 * empty


_PYTHON = """
import mmap, sys
area = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area.madvise(mmap.MADV_NOHUGEPAGE)
def empty_one(slot):
    area.madvise(mmap.MADV_DONTNEED, slot << 21, 4096)
def empty_all():
    for slot in range(1, 30):
        empty_one(slot)
for line in sys.stdin:
    for slot in range(1, 30):
        area[slot << 21] = 1
    empty_all()
    print("done", flush=True)
"""


def test_python_frames_are_named_as_such() -> None:
    with subprocess.Popen(
        ["/usr/bin/python3", "-c", _PYTHON],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdin
        assert program.stdout
        with watching(stack_rate=10_000) as attach:
            session = attach(program.pid)
            program.stdin.write("go\n")
            program.stdin.flush()
            program.stdout.readline()
            session.stop()
            found = report(session.snapshot())
        program.stdin.close()
    by_madvise = [
        group
        for group in found.pages
        if group.emptied_call == "MADV_DONTNEED" and group.emptied_stack is not None
    ]
    assert sum(group.pte_pages for group in by_madvise) == 29
    for group in by_madvise:
        assert group.emptied_stack is not None
        stack = found.stacks[group.emptied_stack]
        frames = [found.frames[number] for number in stack.frames]
        assert stack.complete
        python = [str(frame) for frame in frames if frame.language == "python"]
        assert python
        assert all(name.endswith("[python]") for name in python)


def test_stacks_of_a_process_that_has_ended() -> None:
    with known_program() as program, watching(stack_rate=10_000) as attach:
        session = attach(program.pid)
        program.step("fill")
        program.step("purge")
        program.end()
        session.stop()
        assert session.ended
        totals = report(session.snapshot()).totals
        store = session.engine.stacks
    assert totals.unwound == totals.taken
    assert totals.complete >= 0.9 * totals.unwound
    found = {functions([store.frames[each] for each in stack.frames]) for stack in store.stacks}
    assert ("purge_run", "purge_five", "purge", "named") in found


_32_BIT = """
    .globl _start
_start:
    movl $4, %eax
    movl $1, %ebx
    movl $text, %ecx
    movl $1, %edx
    int $0x80
    movl $room, %ecx        # touch 16 slots
    movl $16, %esi
again:
    movb $1, (%ecx)
    addl $0x200000, %ecx
    decl %esi
    jnz again
    movl $4, %eax
    movl $1, %ebx
    movl $text, %ecx
    movl $1, %edx
    int $0x80
    movl $29, %eax          # pause
    int $0x80
    .data
text: .ascii "x"
    .bss
    .lcomm room, 0x2200000
"""


def test_32_bit_code_has_no_stacks(tmp_path: Path) -> None:
    """The faults of a 32-bit program that replaces a followed one."""
    source, image = tmp_path / "small.s", tmp_path / "small-32"
    source.write_text(_32_BIT)
    subprocess.run(["as", "--32", "-o", tmp_path / "small.o", source], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-o", image, tmp_path / "small.o"], check=True)
    with subprocess.Popen(
        ["/bin/sh", "-c", f"read line; exec {image}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdin
        assert program.stdout
        with watching(stack_rate=10_000) as attach:
            session = attach(program.pid)
            program.stdin.write(b"go\n")
            program.stdin.flush()
            assert program.stdout.read(2) == b"xx"
            session.stop()
            snapshot = session.snapshot()
            frames = session.engine.stacks.frames
        program.kill()
    assert snapshot.window.events["fault"] > 16
    totals = report(snapshot).totals
    # The kernel's fault on the stack of a program that execve starts has no stack to read yet.
    assert totals.taken == totals.unwound + totals.unread
    assert image.name not in {frame.module for frame in frames}
    # The faults of the new program made PTE pages, but none qualified.
    assert totals.sure < 16
