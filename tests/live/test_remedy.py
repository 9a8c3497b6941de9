# SPDX-License-Identifier: GPL-2.0-only
"""The remedy for jemalloc: it frees empty PTE pages, loses no byte, and hooks every arena."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shadow.remedy import Remedy
from tools.remedy.build import built_patterns, built_remedy
from tools.remedy.stress import run_patterns
from tools.workloads.redis import private_redis
from tracer.allocator.remedy import find_remedy
from tracer.census import open_reader
from tracer.kernel import kernel_facts
from tracer.process.target import open_target

_JEMALLOC = "libjemalloc.so.2"
_SOURCES = Path(__file__).parents[2] / "tools" / "remedy"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("remedy")


@pytest.fixture(scope="module")
def library(folder: Path) -> str:
    return built_remedy(folder)


@pytest.fixture(scope="module")
def patterns(folder: Path) -> str:
    return built_patterns(folder)


def _after_flushall(**environment: str) -> tuple[int, int, Remedy | None]:
    """PTE pages, empty ones, and the counters of a Redis that was filled and flushed twice."""
    reader = open_reader(kernel_facts().levels)
    try:
        with private_redis(MALLOC_CONF="dirty_decay_ms:0", **environment) as redis:
            for keys, size in ((20_000, 20_000), (300_000, 500)):
                redis.fill(keys, size)
                redis.flush()
                time.sleep(1)
            census = reader.census(open_target(redis.pid))
            process = open_target(redis.pid).describe()
            return census.pte_pages, int(census.occupancy[0]), process.remedy
    finally:
        reader.close()


def test_nearly_no_pte_page_of_redis_stays_empty_after_flushall(library: str) -> None:
    tables, empty, none = _after_flushall()
    assert none is None
    assert empty > 50
    fewer, left, remedy = _after_flushall(LD_PRELOAD=library)
    assert left <= 0.05 * empty
    assert fewer < tables - 0.8 * empty
    assert remedy is not None
    assert remedy.state == "dontneed"
    assert remedy.swept == remedy.completed > 0
    assert remedy.purges > 0
    assert remedy.merges >= remedy.completed
    assert (remedy.too_small, remedy.too_fast, remedy.failed) == (0, 0, 0)


@pytest.mark.parametrize(
    ("options", "left_alone"),
    [("dry_run", None), ("min=64G", "too_small"), ("rate=1", "too_fast")],
)
def test_options_limit_the_sweeps(library: str, options: str, left_alone: str | None) -> None:
    with private_redis(
        MALLOC_CONF="dirty_decay_ms:0", LD_PRELOAD=library, PTESCOPE_REMEDY=options
    ) as redis:
        redis.fill(10_000, 20_000)
        redis.flush()
        time.sleep(1)
        remedy = find_remedy(redis.pid)
    assert remedy is not None
    assert remedy.completed > 5
    assert remedy.state == ("dontneed" if left_alone else "dry_run")
    if left_alone is None:
        assert remedy.swept == remedy.completed
    else:
        assert getattr(remedy, left_alone) > 0
        assert remedy.swept + getattr(remedy, left_alone) == remedy.completed
        assert remedy.swept <= 5


@pytest.mark.parametrize(
    "settings",
    [
        "dirty_decay_ms:0,background_thread:true",
        "dirty_decay_ms:0,percpu_arena:percpu",
        "dirty_decay_ms:10000,background_thread:false",
        "dirty_decay_ms:-1,background_thread:true",
        "dirty_decay_ms:100,muzzy_decay_ms:100,oversize_threshold:2097152",
    ],
)
def test_no_byte_is_lost(patterns: str, library: str, settings: str) -> None:
    done = run_patterns(patterns, library, settings, 2)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 1000


def test_the_test_finds_a_sweep_of_memory_in_use(patterns: str, tmp_path: Path) -> None:
    """jemalloc calls merge too when it enlarges an allocation in place: that must not be swept."""
    for source in _SOURCES.iterdir():
        if source.suffix in (".c", ".h") or source.name == "Makefile":
            text = source.read_text()
            if source.name == "hooks.c":
                guard = "    if (committed)\n        return false;\n"
                assert guard in text
                text = text.replace(guard, "")
            (tmp_path / source.name).write_text(text)
    wrong = built_remedy(tmp_path, tmp_path)
    done = run_patterns(patterns, wrong, "dirty_decay_ms:0,background_thread:true", 20)
    assert done.returncode != 0
    assert "wrong byte" in done.stderr


_ARENAS = """
import ctypes, json, os, sys, threading
program = ctypes.CDLL(None)

def ctl(name, kind, new=None):
    value, size = kind(), ctypes.c_size_t(ctypes.sizeof(kind))
    given = None if new is None else ctypes.byref(new)
    failed = program.mallctl(
        name.encode(), ctypes.byref(value), ctypes.byref(size), given,
        ctypes.c_size_t(0 if new is None else ctypes.sizeof(new)))
    assert not failed, (name, failed)
    return value.value

program.malloc.restype = ctypes.c_void_p
made = [ctl("arenas.create", ctypes.c_uint)]
mib, length = (ctypes.c_size_t * 2)(), ctypes.c_size_t(2)
assert not program.mallctlnametomib(b"arenas.create", mib, ctypes.byref(length))
value, size = ctypes.c_uint(), ctypes.c_size_t(4)
assert not program.mallctlbymib(mib, length, ctypes.byref(value), ctypes.byref(size), None, 0)
made.append(value.value)
barrier = threading.Barrier(13)

def use():
    program.malloc(ctypes.c_size_t(100))
    barrier.wait()

threads = [threading.Thread(target=use) for _ in range(12)]
for thread in threads:
    thread.start()
barrier.wait()
program.malloc(ctypes.c_size_t(64 << 20))
ctl("epoch", ctypes.c_uint64, ctypes.c_uint64(1))  # updates which arenas are initialized
hooks = {
    number: ctl(f"arena.{number}.extent_hooks", ctypes.c_void_p)
    for number in range(ctl("arenas.narenas", ctypes.c_uint))
    if ctl(f"arena.{number}.initialized", ctypes.c_bool)
}
print(json.dumps({"hooks": hooks, "made": made, "cpus": os.cpu_count()}), flush=True)
sys.stdin.read()
"""


@contextmanager
def _python(script: str, library: str, **environment: str) -> "Iterator[subprocess.Popen[str]]":
    """An interpreter on jemalloc, with the remedy; ends when the block does."""
    program = subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | {"LD_PRELOAD": f"{library}:{_JEMALLOC}"} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield program
    finally:
        program.kill()
        program.communicate()


def _line(program: "subprocess.Popen[str]") -> str:
    assert program.stdout
    line = program.stdout.readline()
    if not line:
        raise AssertionError(program.communicate()[1])
    return line


@pytest.mark.parametrize("settings", ["", "percpu_arena:percpu", "narenas:1"])
def test_every_arena_has_the_hooks_those_made_later_too(library: str, settings: str) -> None:
    with _python(_ARENAS, library, MALLOC_CONF=settings) as program:
        found = json.loads(_line(program))
        remedy = find_remedy(program.pid)
    assert len(set(found["hooks"].values())) == 1, "an arena has other hooks"
    assert {str(number) for number in found["made"]} <= set(found["hooks"])
    assert remedy is not None
    assert remedy.arenas == len(found["hooks"])


@pytest.mark.parametrize(
    ("settings", "options", "state", "said"),
    [
        ("retain:false", "", "no_retain", "retain:false"),
        ("hpa:true", "", "hpa", "hpa:true"),
        ("san_guard_large:1", "", "guards", "san_guard"),
        ("", "rate=fast", "bad_option", '"rate=fast"'),
        ("", "min=1T", "bad_option", '"min=1T"'),
        ("", "remap,sweep", "bad_option", '"sweep"'),
        ("retain:false", "quiet", "no_retain", ""),
    ],
)
def test_it_says_why_it_does_nothing(
    library: str, settings: str, options: str, state: str, said: str
) -> None:
    script = "import sys; print(1, flush=True); sys.stdin.readline()"
    with _python(script, library, MALLOC_CONF=settings, PTESCOPE_REMEDY=options) as program:
        _line(program)
        remedy = find_remedy(program.pid)
        assert program.stdin
        program.stdin.write("\n")
        program.stdin.flush()
        error = program.communicate()[1]
    assert remedy is not None
    assert remedy.state == state
    assert remedy.arenas == 0
    assert (said in error and "does nothing" in error) if said else not error


@pytest.mark.parametrize("options", ["", "off", "rate=fast"])
def test_a_program_without_jemalloc_runs_as_without_the_remedy(library: str, options: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import threading as t; x = t.Thread(); x.start(); x.join()"],
        env=os.environ | {"LD_PRELOAD": library, "PTESCOPE_REMEDY": options},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_forked_child_counts_for_itself(library: str) -> None:
    script = (
        "import os, sys, time\n"
        "for _ in range(20): held = [bytearray(3 << 20) for _ in range(20)]; del held\n"
        "child = os.fork()\n"
        "if child: print(child, flush=True)\n"
        "sys.stdin.read()"
    )
    with _python(script, library, MALLOC_CONF="dirty_decay_ms:0") as program:
        child = int(_line(program))
        parent, forked = find_remedy(program.pid), find_remedy(child)
    assert parent is not None
    assert parent.purges > 0
    assert forked is not None
    assert forked.state == parent.state
    assert forked.arenas == parent.arenas
    assert forked.purges < parent.purges


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PTEREMDY",
        b"PTEREMDY" + b"\xff" * 4088,
        b"PTEREMDX" + bytes([1, 0, 0, 0, 88, 0, 0, 0, 1, 0, 0, 0, 1]) + bytes(100),
        b"PTEREMDY" + bytes([1, 0, 0, 0, 88, 0, 0, 0, 1, 0, 0, 0, 99]) + bytes(100),
        b"PTEREMDY" + bytes([1, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 1]) + bytes(100),
    ],
)
def test_counters_that_the_remedy_cannot_have_written_are_ignored(content: bytes) -> None:
    script = (
        "import mmap, os, sys\n"
        "file = os.memfd_create('ptescope-remedy')\n"
        "os.ftruncate(file, 4096)\n"
        f"os.pwrite(file, {content!r}, 0)\n"
        "page = mmap.mmap(file, 4096)\n"
        "print(1, flush=True)\n"
        "sys.stdin.read()"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        _line(program)
        assert find_remedy(program.pid) is None
    finally:
        program.kill()
        program.communicate()


_DUCKDB = """
import ctypes, sys, _duckdb, duckdb
remedy = ctypes.CDLL("libptescope-remedy.so")
library = ctypes.CDLL(_duckdb.__file__)
state = remedy.ptescope_remedy_start_in(ctypes.c_void_p(library._handle), b"duckdb_je_")
database = duckdb.connect(config={"threads": 2, "allocator_flush_threshold": "1MB"})
for _ in range(3):
    database.execute("create table t as select range as a, hash(range) as b from range(2000000)")
    database.execute("drop table t")
print(state, flush=True)
sys.stdin.read()
"""


def test_it_starts_in_the_jemalloc_of_a_library(folder: Path, library: str) -> None:
    """DuckDB exports its jemalloc under a prefix; nothing else in the process has one."""
    program = subprocess.Popen(
        [sys.executable, "-c", _DUCKDB],
        env=os.environ | {"LD_PRELOAD": library, "LD_LIBRARY_PATH": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert _line(program) == "1\n"
        remedy = find_remedy(program.pid)
    finally:
        program.kill()
        program.communicate()
    assert remedy is not None
    assert remedy.state == "dontneed"
    assert remedy.arenas > 1
    assert remedy.purges > 0
