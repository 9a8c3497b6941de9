# SPDX-License-Identifier: GPL-2.0-only
"""The remedy for jemalloc frees empty PTE pages and loses no byte."""

import time
from pathlib import Path

import pytest

from shadow.remedy import Remedy
from tools.remedy.build import built_remedy
from tools.remedy.stress import run_patterns
from tools.workloads.redis import private_redis
from tracer.allocator.remedy import find_remedy
from tracer.census import open_reader
from tracer.kernel import kernel_facts
from tracer.process.target import open_target

_SOURCES = Path(__file__).parents[2] / "tools" / "remedy"


def _after_flushall(**environment: str) -> tuple[int, int, Remedy | None]:
    """PTE pages, empty ones, and the counters of a Redis that was filled and flushed twice."""
    reader = open_reader(kernel_facts().geometry)
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


def test_nearly_no_pte_page_of_redis_stays_empty_after_flushall(remedy_library: str) -> None:
    tables, empty, none = _after_flushall()
    assert none is None
    assert empty > 50
    fewer, left, remedy = _after_flushall(LD_PRELOAD=remedy_library)
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
def test_options_limit_the_sweeps(
    remedy_library: str, options: str, left_alone: str | None
) -> None:
    with private_redis(
        MALLOC_CONF="dirty_decay_ms:0", LD_PRELOAD=remedy_library, PTESCOPE_REMEDY=options
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
def test_no_byte_is_lost(patterns: str, remedy_library: str, settings: str) -> None:
    done = run_patterns(patterns, remedy_library, settings, 2)
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
