# SPDX-License-Identifier: GPL-2.0-only
"""Stacks of a program that was compiled without frame pointers and whose functions are known."""

import ctypes
import json
import mmap
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from shadow.records import Facts, Record
from shadow.replay import Question, replay_one
from shadow.snapshot import document
from shadow.stacks import Frame, StackReport
from shadow.trace import TraceWriter
from tests.live.attached import watching
from tests.live.stacks import (
    KnownProgram,
    build,
    emptied_in,
    functions,
    known_program,
    made_in,
    report,
)
from tests.shadow.test_held_stacks import EMPTIED, HELD, emptied_by_functions
from tracer.arch import running
from tracer.follow.process_tree import ProcessTree
from tracer.follow.session import Session
from tracer.probes.sources import Backend
from tracer.process.target import open_target
from tracer.stacks.messages import packed

_RATE = 10_000


@contextmanager
def _followed(
    program: Path | None = None, rate: int = _RATE, backend: Backend | None = None
) -> Iterator[tuple[KnownProgram, Session]]:
    with (
        known_program(program) as known,
        watching(stack_rate=rate, backend=backend) as attach,
    ):
        yield known, attach(known.pid)


def _has_process_madvise() -> bool:
    """Whether a process may call it with MADV_DONTNEED on itself, which 6.13 began to allow."""
    libc = ctypes.CDLL(None, use_errno=True)
    with mmap.mmap(-1, mmap.PAGESIZE) as area:
        first = ctypes.c_char.from_buffer(area)
        part = (ctypes.c_uint64 * 2)(ctypes.addressof(first), mmap.PAGESIZE)
        pidfd = os.pidfd_open(os.getpid())
        number = running().calls["process_madvise"]
        done = libc.syscall(number, pidfd, part, 1, mmap.MADV_DONTNEED, 0)
        os.close(pidfd)
        del first
    return bool(done == mmap.PAGESIZE)


def _stacks_of(session: Session) -> StackReport:
    session.stop()
    return report(session.snapshot())


@pytest.mark.parametrize("backend", [None, Backend.TRACEPOINT, Backend.RAW_TRACEPOINT])
def test_each_empty_pte_page_names_the_code_that_made_and_emptied_it(
    backend: Backend | None,
) -> None:
    with _followed(backend=backend) as (program, session):
        for step in ("fill", "purge", "cut", "move", "punch", "by_pidfd"):
            program.step(step)
            session.pump()
        found = _stacks_of(session)
    emptied, made = emptied_in(found), made_in(found)
    thread = ("named",)
    assert emptied["purge", ("purge_run", "purge_three", "purge", *thread)] == 3
    assert emptied["purge", ("purge_run", "purge_five", "purge", *thread)] == 5
    assert emptied["cut", ("cut_mapping", "cut", *thread)] == 4
    assert emptied["move", ("move_page", "move", *thread)] == 1
    assert emptied[None, ("punch_hole", "punch", *thread)] == 1
    assert made["punch", ("touch_slot", "punch", *thread)] == 1
    by_pidfd = emptied["by_pidfd", ("advise_two", "by_pidfd", *thread)]
    # The program for the raw tracepoint takes no stacks of this call.
    assert by_pidfd == (2 if _has_process_madvise() and backend != Backend.RAW_TRACEPOINT else 0)
    made_low = made["fill", ("touch_slot", "fill_some", "fill_low", "fill", *thread)]
    unknown = emptied["by_pidfd", ("not sampled",)]
    assert by_pidfd + unknown == (2 if _has_process_madvise() else 0)
    assert made_low == 13 + by_pidfd + unknown
    assert found.totals.taken == found.totals.seen
    totals = found.totals
    assert totals.lost == 0
    assert totals.unread <= 0.05 * totals.taken  # memory of a stack that is paged out
    assert totals.complete == totals.unwound == totals.taken - totals.unread


_PLUG = """
#include <sys/mman.h>
__attribute__((noinline, noclone)) static void inner_of_{name}(char *slot) {{
    madvise(slot, 4096, MADV_DONTNEED);
    __asm__ volatile("" ::: "memory");
}}
void {name}(char *slot) {{
    inner_of_{name}(slot);
    __asm__ volatile("" ::: "memory");
}}
"""


def _library(folder: Path, name: str) -> Path:
    """A library whose function `name` empties a slot."""
    source, library = folder / f"{name}.c", folder / f"lib{name}.so"
    source.write_text(_PLUG.format(name=name))
    subprocess.run(
        ["gcc", "-O2", "-shared", "-fPIC", "-fomit-frame-pointer", "-o", library, source],
        check=True,
    )
    return library


def _frames(found: StackReport, thread: str) -> list[tuple[list[Frame], bool, int]]:
    """The stacks in which a thread emptied PTE pages: frames, whether complete, PTE pages."""
    return [
        (
            [found.frames[each] for each in found.stacks[group.emptied_stack].frames],
            found.stacks[group.emptied_stack].complete,
            group.pte_pages,
        )
        for group in found.pages
        if group.emptied_by == thread and group.emptied_stack is not None
    ]


def test_stacks_near_the_end_of_their_mapping_are_complete_and_deep_ones_are_not() -> None:
    with _followed() as (program, session):
        for step in ("fill", "own_stack", "deep"):
            program.step(step)
            session.pump()
        found = _stacks_of(session)
    near = _frames(found, "own_stack")
    assert sum(pages for _, _, pages in near) == 6
    # The return address of the first function is the beginning of another one, so the C library's
    # rules for the caller do not apply: the unwinder has to stop there.
    assert {functions(frames) for frames, _, _ in near} == {("purge_deep", "on_own_stack")}
    ((frames, complete, pages),) = _frames(found, "deep")
    assert pages == 1
    assert not complete
    assert set(functions(frames)) == {"recurse"}
    assert len(frames) > 8192 // 200


def test_a_library_that_comes_and_goes_keeps_its_names(tmp_path: Path) -> None:
    """Both libraries are mapped at the same address, one after the other."""
    names = ("first_plug", "second_plug")
    libraries = [_library(tmp_path, name) for name in names]
    with _followed() as (program, session):
        program.step("fill")
        for slot, (library, name) in enumerate(zip(libraries, names, strict=True), 40):
            program.step("plug", library, name, slot)
        for library, name in zip(libraries, names, strict=True):
            program.step("plug", library, name, slot + 1)
            slot += 1
        found = _stacks_of(session)
    by_plug = _frames(found, "plug")
    assert sum(pages for _, _, pages in by_plug) == 4
    assert all(complete for _, complete, _ in by_plug)
    for library, name in zip(libraries, names, strict=True):
        inside = [
            [frame.function for frame in frames if frame.module == library.name]
            for frames, _, _ in by_plug
            if any(frame.module == library.name for frame in frames)
        ]
        assert inside == [[f"inner_of_{name}", name]], name


def test_a_stripped_program_gives_module_and_offset() -> None:
    whole, stripped = build(), build("-s")
    symbols = subprocess.run(["nm", "-S", whole], capture_output=True, text=True, check=True)
    where = {
        fields[3]: range(int(fields[0], 16), int(fields[0], 16) + int(fields[1], 16))
        for fields in map(str.split, symbols.stdout.splitlines())
        if len(fields) == 4
    }
    with _followed(stripped) as (program, session):
        program.step("fill")
        program.step("purge")
        found = _stacks_of(session)
    for frames, complete, pages in _frames(found, "purge"):
        own = [frame for frame in frames if frame.module == "known-stacks"]
        expected = ["purge_run", "purge_three" if pages == 3 else "purge_five", "purge", "named"]
        assert complete
        assert [frame.function for frame in own] == [None] * len(expected)
        assert all(frame.offset in where[name] for frame, name in zip(own, expected, strict=True))


def test_a_debug_file_names_the_functions_of_a_stripped_program(tmp_path: Path) -> None:
    """The debug file lies beside the program, which names it (.gnu_debuglink)."""
    program, symbols = tmp_path / "known-stacks", tmp_path / "known-stacks.debug"
    subprocess.run(["objcopy", "--only-keep-debug", build(), symbols], check=True)
    subprocess.run(
        ["objcopy", "--strip-all", f"--add-gnu-debuglink={symbols}", build(), program], check=True
    )
    with _followed(program) as (known, session):
        known.step("fill")
        known.step("purge")
        found = _stacks_of(session)
    assert emptied_in(found)["purge", ("purge_run", "purge_five", "purge", "named")] == 5


_HOSTILE = "\x1b[2Jevil;name\u202e" + "x" * 5000


@pytest.mark.alone
def test_generated_code_has_the_names_of_the_perf_map() -> None:
    code, other = 0x200000000000, 0x210000000000
    with _followed() as (program, session):
        path = Path(f"/tmp/perf-{program.pid}.map")
        try:
            path.write_bytes(
                b"no line\n-1 20 negative\n"
                + b"f" * 40
                + b" 10 endless\n"
                + f"{code:x} 20 first version\n{code:x} 40 of_the_jit\n".encode()
                + f"{other:x} 40 {_HOSTILE[:400]}\n".encode()
            )
            program.step("fill")
            program.step("jit", f"{code:x}", 50)
            program.step("jit", f"{other:x}", 51)
            program.step("jit", f"{other + (1 << 30):x}", 52)
            found = _stacks_of(session)
        finally:
            path.unlink()
    inner = {frames[0].offset: frames for frames, _, _ in _frames(found, "jit")}
    names = {str(frames[0]) for frames in inner.values()} | {
        str(frames[0]) for frames, _, _ in _frames(found, "jit")
    }
    assert "of_the_jit" in names
    assert any(name.startswith("[generated code]+0x") for name in names)
    (hostile,) = (name for name in names if "evil" in name)
    assert "\x1b" not in hostile
    assert "\u202e" not in hostile
    assert all(complete for _, complete, _ in _frames(found, "jit"))


def test_the_rate_is_honoured_and_said() -> None:
    with _followed(rate=4) as (program, session):
        program.step("fill")
        for _ in range(3):
            program.step("purge")
        found = _stacks_of(session)
        seconds = session.snapshot().window
    most = 4 * (1 + (seconds.end_ns - seconds.start_ns) / 1e9)
    assert 1 <= found.totals.taken <= most
    assert found.totals.seen > 64
    assert found.totals.rate == 4


def test_no_event_is_lost_for_a_stack() -> None:
    with (
        known_program() as program,
        watching(stack_rate=100_000, stack_ring_bytes=1 << 14) as attach,
    ):
        session = attach(program.pid)
        for _ in range(20):
            program.step("fill")
            program.step("purge")
        session.stop()
        snapshot = session.snapshot()
    assert report(snapshot).totals.lost > 0
    assert snapshot.window.lost == 0
    assert snapshot.window.events["dontneed"] >= 20 * 8


def test_an_unwinder_that_dies_costs_the_stacks_but_no_event() -> None:
    with known_program() as program, watching(stack_rate=_RATE) as attach:
        session = attach(program.pid)
        assert attach.stacks
        program.step("fill")
        program.step("purge")
        attach.stacks.flush()
        session.pump()
        attach.stacks._child.kill()
        program.step("cut")
        session.stop()
        snapshot = session.snapshot()
    found = report(snapshot)
    assert found.totals.problem == "The unwinder ended (SIGKILL); later events have no stacks."
    assert snapshot.window.lost == 0
    emptied = emptied_in(found)
    assert emptied["purge", ("purge_run", "purge_five", "purge", "named")] == 5
    assert emptied["cut", ("not sampled",)] == 4


def test_an_unwinder_that_fails_says_why() -> None:
    with known_program() as program, watching(stack_rate=_RATE) as attach:
        session = attach(program.pid)
        assert attach.stacks
        os.write(attach.stacks._orders, packed([1, 2, 3]))
        attach.stacks.flush()
        session.stop()
        problem = report(session.snapshot()).totals.problem
    assert problem is not None
    assert problem.startswith("The unwinder failed (ValidationError: ")


def test_children_have_their_own_stacks() -> None:
    """Followed like `attach -f`: the child empties what it inherited."""
    with known_program() as program, watching(stack_rate=_RATE) as attach:
        tree = ProcessTree(
            attach.probes, attach.kernel, attach.reader, forks=True, stacks=attach.stacks
        )
        tree.add(open_target(program.pid))
        program.step("fill")
        stepping = threading.Thread(target=program.step, args=("child",))
        stepping.start()
        while stepping.is_alive():
            tree.pump()
        tree.stop()
        snapshots = [session.snapshot() for session in tree.sessions]
    parent, child = (report(snapshot) for snapshot in snapshots)
    in_child = ("purge_run", "purge_in_child", "child")
    found = {
        functions([child.frames[each] for each in stack.frames])[:3] for stack in child.stacks
    } | {
        functions([store.frames[each] for each in stack.frames])[:3]
        for store in [tree.sessions[1].engine.stacks]
        for stack in store.stacks
    }
    assert in_child in found
    assert child.totals.taken == child.totals.unwound > 0
    assert not any("purge_in_child" in str(stack) for stack, _ in emptied_in(parent))


def _hostless(record: Record) -> Record:
    return replace(record, host="") if isinstance(record, Facts) else record


def test_a_replay_gives_the_same_to_the_byte_without_the_program(tmp_path: Path) -> None:
    trace = tmp_path / "stacks.arrows"
    writer = TraceWriter(trace, change=lambda: _hostless)
    writer.start()
    with known_program() as program, watching(stack_rate=_RATE) as attach:
        session = attach(program.pid, writer.tee())
        for step in ("fill", "purge", "cut", "move"):
            program.step(step)
            session.pump()
        session.stop()
        live = session.snapshot()
    writer.close()
    (followed,) = replay_one(str(trace), Question()).followed
    assert json.dumps(document([followed.snapshot])) == json.dumps(document([live]))
    assert emptied_by_functions(report(live)) == EMPTIED
    if os.environ.get("PTESCOPE_UPDATE"):
        shutil.copyfile(trace, HELD)
