# SPDX-License-Identifier: GPL-2.0-only
"""The cases: a program, its settings, and the rule to test."""

from collections.abc import Callable
from dataclasses import dataclass, field

from shadow.advice import Finding
from tools.prove_advice.programs import (
    Program,
    Start,
    churn,
    cover,
    phase,
    polars,
    postgres,
    prefork,
    redis,
    shared,
)
from tools.workloads.redis import Redis

__all__ = ("CASES", "Case")

_JEMALLOC = "libjemalloc.so.2"
_TCMALLOC = "libtcmalloc.so.4"
_BUFFERS = phase(4, 1536, 1 << 16, 1 << 20, 0, 3)
_SURVIVORS = phase(4, 1024, 2000, 60000, 64, 3)


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        name: what runs.
        rule: the rule to apply.
        start: starts the program.
        settings: its environment before the change.
        rest: seconds from the end of its work to the measurement, longer than any decay time.
        obey: applies a finding inside the program, after its work.
        in_place: whether `obey` works in the followed program, without a second run.
        beside: settings that the advice leaves to the author of the program.
        family: whether the advice is on the program and all that it forks.
    """

    name: str
    rule: str
    start: Start
    settings: dict[str, str] = field(default_factory=dict)
    rest: float = 18.0
    obey: Callable[[Program, Finding], None] | None = None
    in_place: bool = False
    beside: dict[str, str] = field(default_factory=dict)
    family: bool = False


def _jemalloc(options: str) -> dict[str, str]:
    return {"LD_PRELOAD": _JEMALLOC, "MALLOC_CONF": f"background_thread:true{options}"}


def _large_values(server: Redis) -> None:
    server.fill(40_000, 30_000)
    server.flush()


def _small_values(server: Redis) -> None:
    server.fill(1_500_000, 500)
    server.flush()


def _sweep(program: Program, finding: Finding) -> None:
    for slot in finding.slots:
        program.send(f"{slot:#x}")


def _release(program: Program, _finding: Finding) -> None:
    program.send("release")


CASES = (
    Case(
        "Redis, 40,000 x 30 kB, FLUSHALL",
        "immediate_purge",
        redis(_large_values),
        {"MALLOC_CONF": "dirty_decay_ms:0"},
    ),
    Case(
        "Redis, 1,500,000 x 500 B, FLUSHALL",
        "immediate_purge",
        redis(_small_values),
        {"MALLOC_CONF": "dirty_decay_ms:0"},
    ),
    Case("Redis, 40,000 x 30 kB, FLUSHALL", "remedy", redis(_large_values)),
    Case("Redis, 1,500,000 x 500 B, FLUSHALL", "remedy", redis(_small_values)),
    Case(
        "Redis, 1,500,000 x 500 B, FLUSHALL",
        "remedy",
        redis(_small_values),
        {"MALLOC_CONF": "dirty_decay_ms:0"},
    ),
    Case("C churn, 4 threads, jemalloc", "remedy", churn(4, 240), _jemalloc("")),
    Case("C, 4 threads, jemalloc, buffers", "remedy", _BUFFERS, _jemalloc(",dirty_decay_ms:0")),
    Case("C, 4 threads, jemalloc, buffers", "remedy", _BUFFERS, _jemalloc("")),
    Case("Redis, 40,000 x 30 kB, FLUSHALL", "retain", redis(_large_values)),
    Case("Redis, 1,500,000 x 500 B, FLUSHALL", "retain", redis(_small_values)),
    Case(
        "polars, 4 joins of 6,000,000 rows",
        "immediate_purge",
        polars(6_000_000, 4),
        {"_RJEM_MALLOC_CONF": "dirty_decay_ms:0"},
    ),
    Case(
        "C, 4 threads, jemalloc, buffers",
        "immediate_purge",
        _BUFFERS,
        _jemalloc(",dirty_decay_ms:0"),
    ),
    Case("C, 4 threads, jemalloc, buffers", "oversize", _BUFFERS, _jemalloc("")),
    Case("C, 4 threads, jemalloc, buffers", "retain", _BUFFERS, _jemalloc("")),
    Case("C, 4 threads, jemalloc, buffers", "lazy_free", _BUFFERS, _jemalloc(",muzzy_decay_ms:-1")),
    Case(
        "C, 4 threads, jemalloc, buffers",
        "own_call",
        _BUFFERS,
        _jemalloc(",dirty_decay_ms:0"),
        obey=_sweep,
        in_place=True,
    ),
    Case(
        "C, 4 threads, jemalloc, buffers",
        "other_allocator",
        _BUFFERS,
        _jemalloc(",dirty_decay_ms:0"),
    ),
    Case(
        "C, 4 threads, jemalloc, survivors",
        "immediate_purge",
        _SURVIVORS,
        _jemalloc(",dirty_decay_ms:0"),
    ),
    Case(
        "C, 4 threads, jemalloc, survivors",
        "longer_decay",
        _SURVIVORS,
        _jemalloc(",dirty_decay_ms:1000"),
    ),
    Case("C, 4 threads, jemalloc, survivors", "retain", _SURVIVORS, _jemalloc("")),
    Case(
        "C churn, 4 threads, jemalloc",
        "immediate_purge",
        churn(4, 60),
        _jemalloc(",dirty_decay_ms:0"),
    ),
    Case("C churn, 4 threads, jemalloc", "retain", churn(4, 240), _jemalloc("")),
    Case(
        "C, 4 threads, gperftools, buffers",
        "aggressive_decommit",
        _BUFFERS,
        {"LD_PRELOAD": _TCMALLOC, "TCMALLOC_AGGRESSIVE_DECOMMIT": "t"},
        rest=2.0,
        obey=_release,
    ),
    Case(
        "the RFC's example, 10 GiB",
        "small_purges",
        cover(10),
        {"PURGE_KIB": "1024"},
        rest=1.0,
        beside={"PURGE_KIB": "2048"},
    ),
    Case(
        "memfd, 512 MiB, pages punched out",
        "shared_emptied",
        shared(512, "punch"),
        rest=1.0,
        obey=_sweep,
        in_place=True,
    ),
    Case(
        "memfd, 512 MiB",
        "shared_memory",
        shared(512, "fill"),
        rest=1.0,
        beside={"HUGETLB": "1"},
    ),
    Case(
        "PostgreSQL 15, a backend that reads 512 MiB",
        "shared_memory",
        postgres(512),
        {"huge_pages": "off"},
        rest=1.0,
        beside={"huge_pages": "on"},
    ),
    Case(
        "prefork server, 8 workers, 128 MiB shared",
        "shared_memory",
        prefork(128),
        {"WORKERS": "8"},
        rest=1.0,
        beside={"HUGETLB": "1"},
        family=True,
    ),
    Case(
        "prefork server, 8 workers, 128 MiB shared",
        "many_processes",
        prefork(128),
        {"WORKERS": "8"},
        rest=1.0,
        beside={"WORKERS": "4"},
        family=True,
    ),
)
