# SPDX-License-Identifier: GPL-2.0-only
"""The settings of allocators, read from a synthetic process."""

from typing import cast

import pytest

from shadow.snapshot import AllocatorOption
from tracer.allocator import jemalloc, libc, mimalloc, runtimes, tcmalloc
from tracer.allocator.build import Build
from tracer.allocator.process_memory import View


class _View:
    """A process with an environment and arguments but no memory."""

    def __init__(
        self,
        environment: dict[str, str],
        arguments: list[str] | None = None,
        link: str | None = None,
        threads: set[str] | None = None,
    ) -> None:
        self.environment, self.arguments = environment, arguments or []
        self._link, self._threads = link, threads or set()

    def link(self, path: str) -> str | None:
        return self._link

    def threads(self) -> set[str]:
        return self._threads

    def read(self, address: int, size: int) -> None:
        return None


def _view(environment: dict[str, str], **more: object) -> View:
    return cast(View, _View(environment, **more))  # type: ignore[arg-type]


def _plain(options: dict[str, AllocatorOption]) -> dict[str, tuple[str, str]]:
    return {name: (option.value, option.source) for name, option in options.items()}


def test_the_last_source_of_jemalloc_wins() -> None:
    build = Build("jemalloc", "5.3.0", variables=("MALLOC_CONF",), config="retain:false,narenas:1")
    view = _view({"MALLOC_CONF": "narenas:3"}, link="narenas:2,dirty_decay_ms:5")
    found = _plain(jemalloc.options(build, view, {}, None))
    assert found["retain"] == ("false", "text in the image")
    assert found["dirty_decay_ms"] == ("5", "/etc/malloc.conf")
    assert found["narenas"] == ("3", "MALLOC_CONF")
    assert found["muzzy_decay_ms"] == ("0", "default")


def test_options_in_memory_override_those_of_the_start() -> None:
    build = Build("jemalloc", "5.3.0", variables=("MALLOC_CONF",))
    view = _view({"MALLOC_CONF": "dirty_decay_ms:3"}, threads={"jemalloc_bg_thd"})
    live = {
        "opt_dirty_decay_ms": AllocatorOption("4", "memory"),
        "dirty_decay_ms_default": AllocatorOption("9", "memory"),
    }
    found = _plain(jemalloc.options(build, view, live, None))
    assert found["dirty_decay_ms"] == ("4", "memory")
    assert found["arenas.dirty_decay_ms"] == ("9", "memory")
    assert found["background_thread"] == ("true", "its threads run")


def test_threads_that_ended_with_a_fork_are_not_taken_from_the_settings() -> None:
    build = Build("jemalloc", "5.3.0", variables=("MALLOC_CONF",))
    view = _view({"MALLOC_CONF": "background_thread:true"}, threads={"worker"})
    found = _plain(jemalloc.options(build, view, {}, None))
    assert found["background_thread"] == ("false", "none of its threads runs")


@pytest.mark.parametrize("version", [None, "4.5.0", "5.1.0"])
def test_defaults_of_other_versions_are_not_guessed(version: str | None) -> None:
    build = Build("jemalloc", version, variables=("MALLOC_CONF",))
    assert jemalloc.options(build, _view({}), {}, None) == {}


@pytest.mark.parametrize(
    ("text", "on"), [("1", "true"), ("t", "true"), ("Yes", "true"), ("0", "false"), ("f", "false")]
)
def test_switches_of_gperftools(text: str, on: str) -> None:
    view = _view({"TCMALLOC_AGGRESSIVE_DECOMMIT": text})
    found = _plain(tcmalloc.gperftools_options(Build("gperftools", "2.10"), view, {}))
    assert found["aggressive_decommit"] == (on, "TCMALLOC_AGGRESSIVE_DECOMMIT")
    assert found["release_rate"] == ("1", "default")


def test_mimalloc_is_set_by_either_case() -> None:
    build = Build("mimalloc", variables=("MIMALLOC_PURGE_DELAY",))
    view = _view({"mimalloc_purge_delay": "7"})
    assert _plain(mimalloc.options(build, view, None)) == {
        "purge_delay": ("7", "mimalloc_purge_delay")
    }


def test_tunables_of_glibc_override_their_older_names() -> None:
    tunables = "glibc.malloc.arena_max=2:glibc.pthread.rseq=0:glibc.malloc.trim_threshold=9"
    view = _view({"MALLOC_ARENA_MAX": "1", "MALLOC_TOP_PAD_": "5", "GLIBC_TUNABLES": tunables})
    assert _plain(libc.glibc_options(view)) == {
        "arena_max": ("2", "GLIBC_TUNABLES"),
        "top_pad": ("5", "MALLOC_TOP_PAD_"),
        "trim_threshold": ("9", "GLIBC_TUNABLES"),
    }


def test_the_heap_of_a_jvm() -> None:
    arguments = ["java", "-Xmx1g", "-XX:-UseG1GC", "-Dsecret=1", "-XX:MaxRAMPercentage=70", "Main"]
    view = _view({"JAVA_TOOL_OPTIONS": "-Xmx2g -Xms1g"}, arguments=arguments)
    assert _plain(runtimes.jvm_options(view)) == {
        "Xmx": ("1g", "command line"),
        "Xms": ("1g", "JAVA_TOOL_OPTIONS"),
        "UseG1GC": ("false", "command line"),
        "MaxRAMPercentage": ("70", "command line"),
    }


def test_the_collector_of_go() -> None:
    view = _view({"GOGC": "50", "PATH": "/"})
    assert _plain(runtimes.go_options(view)) == {"GOGC": ("50", "GOGC")}
