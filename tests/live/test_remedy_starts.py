# SPDX-License-Identifier: GPL-2.0-only
"""Where the remedy for jemalloc starts, which arenas it hooks, and why it does nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tracer.allocator.remedy import find_remedy

_JEMALLOC = "libjemalloc.so.2"
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
def test_every_arena_has_the_hooks_those_made_later_too(remedy_library: str, settings: str) -> None:
    with _python(_ARENAS, remedy_library, MALLOC_CONF=settings) as program:
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
        ("", "rate=0", "bad_option", '"rate=0"'),
        ("", "remap,sweep", "bad_option", '"sweep"'),
        ("retain:false", "quiet", "no_retain", ""),
    ],
)
def test_it_says_why_it_does_nothing(
    remedy_library: str, settings: str, options: str, state: str, said: str
) -> None:
    script = "import sys; print(1, flush=True); sys.stdin.readline()"
    with _python(script, remedy_library, MALLOC_CONF=settings, PTESCOPE_REMEDY=options) as program:
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
def test_a_program_without_jemalloc_runs_as_without_the_remedy(
    remedy_library: str, options: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import threading as t; x = t.Thread(); x.start(); x.join()"],
        env=os.environ | {"LD_PRELOAD": remedy_library, "PTESCOPE_REMEDY": options},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_forked_child_counts_for_itself(remedy_library: str) -> None:
    script = (
        "import os, sys, time\n"
        "for _ in range(20): held = [bytearray(3 << 20) for _ in range(20)]; del held\n"
        "ready, tell = os.pipe()\n"
        "child = os.fork()\n"
        "if child: os.read(ready, 1); print(child, flush=True)\n"
        "else: os.write(tell, b'1')\n"
        "sys.stdin.read()"
    )
    with _python(script, remedy_library, MALLOC_CONF="dirty_decay_ms:0") as program:
        child = int(_line(program))
        parent, forked = find_remedy(program.pid), find_remedy(child)
    assert parent is not None
    assert parent.purges > 0
    assert forked is not None
    assert forked.state == parent.state
    assert forked.arenas == parent.arenas
    assert forked.purges < parent.purges


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


def test_it_starts_in_the_jemalloc_of_a_library(remedy_folder: Path, remedy_library: str) -> None:
    """DuckDB exports its jemalloc under a prefix; nothing else in the process has one."""
    program = subprocess.Popen(
        [sys.executable, "-c", _DUCKDB],
        env=os.environ | {"LD_PRELOAD": remedy_library, "LD_LIBRARY_PATH": str(remedy_folder)},
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


_UNAME = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
int uname(struct utsname *name) {
    memset(name, 0, sizeof(*name));
    snprintf(name->release, sizeof(name->release), "%s", getenv("RELEASE"));
    return 0;
}
"""


@pytest.mark.parametrize(
    ("release", "options", "state"),
    [
        ("6.18.2-generic", "", "dontneed"),
        ("7.0.0", "", "kernel_flawed"),
        ("7.1.8-2-amd64", "", "kernel_flawed"),
        ("7.1.8-2-amd64", "remap", "remap"),
        ("7.1.9", "", "dontneed"),
        ("7.2", "", "dontneed"),
    ],
)
def test_it_sweeps_nothing_on_kernels_that_flush_the_wrong_slot(
    remedy_library: str, tmp_path: Path, release: str, options: str, state: str
) -> None:
    shim = tmp_path / "uname.so"
    compiler = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(shim)]
    subprocess.run(compiler, input=_UNAME, text=True, check=True)
    script = "import sys; print(1, flush=True); sys.stdin.read()"
    preload = f"{shim}:{remedy_library}"
    with _python(script, preload, RELEASE=release, PTESCOPE_REMEDY=options) as program:
        _line(program)
        remedy = find_remedy(program.pid)
    assert remedy is not None
    assert remedy.state == state
