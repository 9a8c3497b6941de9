# SPDX-License-Identifier: GPL-2.0-only
"""Allocators of running processes: which one serves malloc, and the settings of each."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shadow.snapshot import Allocator
from tools.corpus import PROGRAMS, STATIC_JEMALLOC
from tools.workloads.redis import private_redis
from tracer.allocator import find_allocators
from tracer.allocator.elf_image import Image

_SLEEP = "import time; time.sleep(60)"
_JEMALLOC = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
_STATIC = """
#include <stdio.h>
#include <stdlib.h>
const char *malloc_conf = "retain:false,narenas:3";
int main(void) { return malloc(1) ? getchar() : 0; }
"""


def _file(package: str) -> str:
    return str(next(p.path for p in PROGRAMS if p.package.partition("==")[0] == package))


def _mimalloc_delay() -> str:
    """The name of the delay option in the libmimalloc of this distribution."""
    with Image(_file("libmimalloc2.0")) as image:
        return "purge_delay" if image.says(b"purge_delay\0") else "decommit_delay"


@contextmanager
def _running(*command: str, ready: str, **environment: str) -> Iterator[int]:
    """A process, once it has mapped a file with `ready` in its name and sleeps."""
    program = subprocess.Popen(
        command, env=os.environ | environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 20
        proc = Path(f"/proc/{program.pid}")
        while ready not in (proc / "maps").read_text() or " S " not in (proc / "stat").read_text():
            assert program.poll() is None, "it ended"
            assert time.monotonic() < deadline, f"{ready} was not mapped"
            time.sleep(0.02)
        yield program.pid
    finally:
        program.kill()
        program.communicate()


def _named(allocators: list[Allocator], name: str) -> Allocator:
    return next(allocator for allocator in allocators if allocator.name == name)


def _sources(allocator: Allocator) -> dict[str, tuple[str, str]]:
    return {name: (o.value, o.source) for name, o in allocator.options.items()}


def test_redis_runs_on_a_shared_jemalloc_set_by_its_environment() -> None:
    with private_redis(MALLOC_CONF="dirty_decay_ms:0,retain:false") as redis:
        first, *others = find_allocators(redis.pid)
    assert (first.name, first.version, first.serves) == ("jemalloc", "5.3.0", "malloc")
    assert first.linked == f"shared: {Path(_JEMALLOC).resolve()}"
    options = _sources(first)
    assert options["dirty_decay_ms"] == ("0", "MALLOC_CONF")
    assert options["retain"] == ("false", "MALLOC_CONF")
    assert options["muzzy_decay_ms"] == ("0", "default")
    assert options["background_thread"] == (
        "true",
        "its threads run",
    )  # Redis starts background threads
    assert [other.serves for other in others] == ["not malloc"]


@pytest.mark.parametrize(
    ("library", "name", "settings", "option"),
    [
        (_JEMALLOC, "jemalloc", {"MALLOC_CONF": "narenas:1"}, ("narenas", "1", "MALLOC_CONF")),
        (
            _file("libtcmalloc-minimal4"),
            "gperftools",
            {"TCMALLOC_RELEASE_RATE": "7.5"},
            ("release_rate", "7.5", "memory"),
        ),
        (
            _file("libtcmalloc-minimal4"),
            "gperftools",
            {"TCMALLOC_AGGRESSIVE_DECOMMIT": "t"},
            ("aggressive_decommit", "true", "TCMALLOC_AGGRESSIVE_DECOMMIT"),
        ),
        (
            _file("libmimalloc2.0"),
            "mimalloc",
            {f"MIMALLOC_{_mimalloc_delay().upper()}": "0"},
            (_mimalloc_delay(), "0", f"MIMALLOC_{_mimalloc_delay().upper()}"),
        ),
        (
            _file("cmeel-mimalloc"),
            "mimalloc",
            {"MIMALLOC_PURGE_DELAY": "12"},
            ("purge_delay", "12", "memory"),
        ),
    ],
)
def test_a_preloaded_allocator_serves_malloc(
    library: str, name: str, settings: dict[str, str], option: tuple[str, str, str]
) -> None:
    file = Path(library).resolve().name
    with _running(sys.executable, "-c", _SLEEP, ready=file, LD_PRELOAD=library, **settings) as pid:
        first, *others = find_allocators(pid)
    assert (first.name, first.serves) == (name, "malloc")
    assert first.linked == f"preloaded: {Path(library).resolve()}"
    assert first.settings == settings
    where, value, source = option
    assert _sources(first)[where] == (value, source)
    assert _named(others, "glibc").serves == "not malloc"


def test_a_prefixed_jemalloc_is_found_in_addition_to_the_malloc_of_glibc() -> None:
    folder = Path(_file("duckdb")).parent
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import _duckdb; {_SLEEP}"
    with _running(sys.executable, "-c", code, ready="_duckdb") as pid:
        first, *others = find_allocators(pid)
    assert (first.name, first.serves) == ("jemalloc", "calls of duckdb_je_*")
    assert first.page_size == 4096
    assert first.options["retain"].source == "memory"
    assert _named(others, "glibc").serves == "malloc"


def test_linked_in_jemalloc_and_its_live_options(tmp_path: Path) -> None:
    program = tmp_path / "program"
    source = tmp_path / "program.c"
    source.write_text(_STATIC)
    libraries = [str(STATIC_JEMALLOC), "-lm", "-lpthread", "-ldl"]
    subprocess.run(["gcc", "-o", program, source, *libraries], check=True)
    with _running(str(program), ready="program", MALLOC_CONF="narenas:2") as pid:
        program.unlink()
        first, *others = find_allocators(pid)
    assert (first.name, first.version, first.serves) == ("jemalloc", "5.3.0", "malloc")
    assert first.linked == "in the executable"
    assert first.page_size == 4096
    options = _sources(first)
    assert options["retain"] == ("false", "memory")
    assert options["narenas"] == ("2", "memory")  # the environment overrides the program's settings
    assert options["dirty_decay_ms"] == ("10000", "memory")
    assert not any("live options" in sentence for sentence in first.unknown)
    assert _named(others, "glibc").serves == "not malloc"


def test_a_deleted_library_is_still_read(tmp_path: Path) -> None:
    library = tmp_path / "libjemalloc.so.2"
    shutil.copy(_JEMALLOC, library)
    with _running(sys.executable, "-c", _SLEEP, ready=str(library), LD_PRELOAD=str(library)) as pid:
        library.unlink()
        first = find_allocators(pid)[0]
    assert (first.name, first.version, first.serves) == ("jemalloc", "5.3.0", "malloc")
    assert first.linked == f"preloaded: {library} (deleted)"


def test_a_replaced_library_is_not_mistaken_for_the_mapped_one(tmp_path: Path) -> None:
    library = tmp_path / "libjemalloc.so.2"
    shutil.copy(_JEMALLOC, library)
    with _running("/usr/bin/cat", ready=str(library), LD_PRELOAD=str(library)) as pid:
        library.unlink()
        shutil.copy(_file("libmimalloc2.0"), library)
        assert {allocator.name for allocator in find_allocators(pid)} == {"jemalloc", "glibc"}


@pytest.mark.parametrize(
    ("package", "arguments", "name", "serves"),
    [
        ("busybox-static", ("sleep", "60"), "glibc", "malloc"),
        ("ruff", ("server",), "jemalloc", "calls of _rjem_*"),
        ("fzf", ("--filter", "x"), "Go", "calls of runtime.*"),
        ("ripgrep", ("x", "-"), "glibc", "malloc"),
    ],
)
def test_a_statically_linked_allocator_is_found(
    package: str, arguments: tuple[str, ...], name: str, serves: str
) -> None:
    program = _file(package)
    with _running(program, *arguments, ready=Path(program).name) as pid:
        first = find_allocators(pid)[0]
    assert (first.name, first.serves) == (name, serves)


@pytest.mark.parametrize(("choice", "first"), [("default", "glibc"), ("mimalloc", "mimalloc")])
def test_the_mimalloc_of_cpython_counts_only_if_it_is_selected(choice: str, first: str) -> None:
    if sys.version_info < (3, 13):  # this CPython contains no mimalloc
        choice, first = "default", "glibc"
    with _running(sys.executable, "-c", _SLEEP, ready="libc.so", PYTHONMALLOC=choice) as pid:
        found = find_allocators(pid)
    assert found[0].name == first
    served = [each.serves for each in found if each.name == "mimalloc"]
    if sys.version_info >= (3, 13):
        assert served == ["calls of mi_*" if choice == "mimalloc" else "not malloc"]


def test_a_program_in_a_container_is_examined(tmp_path: Path) -> None:
    """Another root with its own /etc/malloc.conf, and without the files of the host."""
    root = tmp_path / "root"
    for file in ("/usr/bin/cat", _JEMALLOC, *_needed("/usr/bin/cat"), *_needed(_JEMALLOC)):
        (root / file[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, root / file[1:])
    (root / "etc").mkdir()
    (root / "etc/malloc.conf").symlink_to("dirty_decay_ms:123")
    command = ("chroot", str(root), "/usr/bin/cat")
    with _running(*command, ready="libjemalloc", LD_PRELOAD=_JEMALLOC) as pid:
        shutil.rmtree(root / "usr/lib")
        first = find_allocators(pid)[0]
    assert (first.name, first.version) == ("jemalloc", "5.3.0")
    assert _sources(first)["dirty_decay_ms"] == ("123", "/etc/malloc.conf")


def _needed(file: str) -> list[str]:
    listed = subprocess.run(["ldd", file], capture_output=True, text=True, check=True).stdout
    return [word for word in listed.split() if word.startswith("/")]


def test_a_process_that_has_ended_has_no_allocator() -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
        assert find_allocators(ended.pid) == []
