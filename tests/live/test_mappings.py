# SPDX-License-Identifier: GPL-2.0-only
"""Owners of the page tables of real programs, compared with VmPTE, pagemap and smaps."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shadow.family import family_of
from shadow.records import Facts, Record
from shadow.replay import Replay, open_trace
from shadow.snapshot import Snapshot, document
from shadow.trace import TraceWriter
from tests.live.attached import watching
from tests.shadow.test_held_owners import HELD
from tests.x86_64 import PAGE, SLOT
from tools.workloads.owners import (
    PREFORK_MIB,
    Program,
    asan_program,
    memfd_user,
    prefork_server,
)
from tools.workloads.postgres import private_postgres
from tools.workloads.redis import private_redis
from tracer.census import open_reader
from tracer.census.take import take_census
from tracer.kernel import kernel_facts
from tracer.process.target import open_target

_NOT_NONE = np.uint64(0b11 << 62)
_PTESCOPE = [sys.executable, "-m", "tracer"]
_BACKENDS = 8
_HELD_PROCESSES = 7
"""Most processes of one program in a stored trace, which has at most 200 kB."""


@contextmanager
def _redis() -> Iterator[Program]:
    with private_redis() as server:
        server.fill(50_000, 200)
        yield Program(server.pid)


@contextmanager
def _postgres() -> Iterator[Program]:
    """Run a server under load; wait for its backends and stop them before the `with` block."""
    with private_postgres() as server:
        load = server.load(_BACKENDS, 120)
        try:
            backends: tuple[int, ...] = ()
            deadline = time.monotonic() + 30
            while len(backends) < _BACKENDS and time.monotonic() < deadline:
                time.sleep(0.5)
                backends = tuple(_backends_of(server.pid))
            time.sleep(5)
            for pid in backends:  # stopped, so that all readings are the same
                os.kill(pid, 19)
            time.sleep(0.2)
            yield Program(server.pid, backends)
        finally:
            load.terminate()
            load.wait()
            for pid in backends:
                os.kill(pid, 18)


def _backends_of(pid: int) -> Iterator[int]:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"[local]" in Path(f"/proc/{child}/cmdline").read_bytes():
            yield int(child)


_PROGRAMS: dict[str, Callable[[], AbstractContextManager[Program]]] = {
    "redis": _redis,
    "postgres": _postgres,
    "memfd": memfd_user,
    "asan": asan_program,
    "prefork": lambda: prefork_server(12),
}


def _census(*pids: int) -> list[Snapshot]:
    kernel = kernel_facts()
    reader = open_reader(kernel.geometry)
    try:
        return [take_census(reader, open_target(pid), kernel) for pid in pids]
    finally:
        reader.close()


def _entries_by_slot(pid: int) -> dict[int, dict[str, int]]:
    """Entries in pagemap by slot and name in maps, read independently of the code under test."""
    found: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            fields = line.split(maxsplit=5)
            name = fields[5] if len(fields) > 5 else ""
            start, end = (int(part, 16) for part in fields[0].split("-"))
            if start >= 1 << 47:
                continue
            for low in range(start, end, 1 << 30):  # in pieces, because ASan maps 15 TiB
                length = min(1 << 30, end - low) // PAGE
                if end - start > 1 << 36 and not _resident(pid, start):
                    break
                pagemap.seek(low // PAGE * 8)
                raw = np.frombuffer(pagemap.read(length * 8), "<u8")
                for at in np.flatnonzero(raw & _NOT_NONE).tolist():
                    found[(low + at * PAGE) // SLOT][name] += 1
    return found


def _resident(pid: int, start: int) -> bool:
    """Whether smaps shows resident pages of the mapping that starts at `start`."""
    wanted = f"{start:08x}-" if start < 1 << 32 else f"{start:x}-"
    text = Path(f"/proc/{pid}/smaps").read_text()
    mine = text[text.index(f"\n{wanted}" if not text.startswith(wanted) else wanted) :]
    (line,) = [each for each in mine.splitlines()[:12] if each.startswith("Rss:")]
    return int(line.split()[1]) > 0


def _check_sums(snapshot: Snapshot) -> None:
    """Check that all tables are charged to the byte, and that the sum equals VmPTE."""
    uses, now = snapshot.mappings, snapshot.now
    assert uses
    assert snapshot.reading
    assert snapshot.reading.exact
    assert sum(use.bytes for use in uses) == 1024 * (now.vm_pte_kib or 0)
    assert sum(use.pte_pages for use in uses) == now.pte_pages
    assert sum(use.empty for use in uses) == now.empty
    assert sum(use.sparse for use in uses) == now.sparse
    assert sum(use.entries for use in uses) == now.refs
    assert sum(use.pmd_pages for use in uses) == now.pmd_pages
    assert sum(use.pud_pages for use in uses) == now.pud_pages
    assert {use.kind for use in uses} & {"unmapped", "unplaced"} == set()


@pytest.mark.parametrize("name", _PROGRAMS)
def test_tables_of_real_programs_are_charged_whole(name: str) -> None:
    with _PROGRAMS[name]() as program:
        pids = (program.pid, *program.workers)
        for pid, snapshot in zip(pids, _census(*pids), strict=True):
            _check_sums(snapshot)
            if name == "asan":
                continue  # reading pagemap for 15 TiB takes minutes; another test checks the kinds
            truth = _entries_by_slot(pid)
            charged: dict[str, float] = defaultdict(float)
            entries: dict[str, int] = defaultdict(int)
            for names in truth.values():
                for mapped, count in names.items():
                    entries[mapped] += count
                    charged[mapped] += count / sum(names.values())
            files = [use for use in snapshot.mappings or [] if use.device]
            assert files
            for use in files:
                assert use.name
                assert abs(use.entries - entries[use.name]) <= 2, use
                # pagemap does not show entries of [vvar], so shares of such a slot differ.
                found = use.pte_pages - use.empty
                assert found == pytest.approx(charged[use.name], abs=0.05), use


def test_a_memfd_is_charged_by_its_name_and_has_sparse_pte_pages() -> None:
    with memfd_user() as program:
        (snapshot,) = _census(program.pid)
    by_name = {use.name: use for use in snapshot.mappings or [] if use.kind == "memfd"}
    cache, index = (by_name[f"/memfd:{name} (deleted)"] for name in ("cache", "index"))
    # The second mapping has one entry. A mapping that starts inside a slot takes one more PTE page.
    assert cache.entries == 48 * 256 + 1
    assert 24 < cache.pte_pages <= 26
    assert cache.mappings == 2
    assert index.entries == 32
    assert 31 <= index.pte_pages <= 33
    assert index.sparse == pytest.approx(index.pte_pages, abs=1.01)
    assert cache.ranges == [[0, 48 << 20]]


def test_asan_pays_for_its_shadow_and_for_upper_levels() -> None:
    with asan_program() as program:
        (snapshot,) = _census(program.pid)
    _check_sums(snapshot)
    uses = {use.name: use for use in snapshot.mappings or []}
    shadow, heap = uses["ASan shadow"], uses["ASan heap"]
    assert (shadow.kind, heap.kind) == ("sanitizer", "allocator")
    assert heap.entries * PAGE > sum(1 << (i % 16) for i in range(4000))
    assert shadow.pte_pages >= 8
    # The regions of the heap are 2^36 bytes apart, so each has its own PMD pages.
    assert heap.pmd_pages >= 8
    assert shadow.share + heap.share > 0.5


def test_backends_of_postgres_map_the_same_buffers() -> None:
    with _postgres() as program:
        family = family_of("name", "postgres", _census(*program.workers))
        rss = [_shared_pages(pid) for pid in program.workers]
    common = {each.name: each for each in family.common}["/dev/zero (deleted)"]
    assert len(program.workers) == _BACKENDS == common.processes
    # 64 MB of shared buffers, and other shared memory of the server.
    assert 64 << 10 <= common.common_kib < 160 << 10
    assert common.kind == "shared_anonymous"
    (use,) = [each for each in family.mappings if each.name == "/dev/zero (deleted)"]
    assert use.entries == sum(rss)
    assert use.pte_pages == common.pte_pages >= sum(rss) / 512
    assert family.pte_pages * 4 + 4 * (family.pmd_pages + family.pud_pages) == family.vm_pte_kib


def _shared_pages(pid: int) -> int:
    """The number of mapped pages of shared anonymous memory, from smaps."""
    found, ours = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if "-" in line.split(maxsplit=1)[0]:
            ours = line.endswith("/dev/zero (deleted)")
        elif ours and line.startswith("Rss:"):
            found += int(line.split()[1]) // 4
    return found


def test_prefork_workers_are_one_family() -> None:
    name = f"pre{os.getpid()}"
    with prefork_server(12, name) as program:
        said = subprocess.run(
            [*_PTESCOPE, "census", "-n", name], capture_output=True, text=True, check=True
        ).stdout
        document = json.loads(
            subprocess.run(
                [*_PTESCOPE, "census", "-n", name, "--json"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        advice = subprocess.run(
            [*_PTESCOPE, "advise", "-n", name, "-d", "1"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        pids = sorted([program.pid, *program.workers])
    (family,) = document["families"]
    assert family["pids"] == pids
    assert family["empty"] == sum(p["now"]["empty"] for p in document["processes"]) >= 12 * 12
    shared = next(each for each in family["common"] if each["name"] == "/dev/zero (deleted)")
    assert shared["processes"] == 13
    assert shared["common_kib"] == PREFORK_MIB << 10
    pages = PREFORK_MIB // 2
    assert pages <= shared["least"] <= shared["most"] <= pages + 1
    assert f"13 processes map the same {PREFORK_MIB}.0 MiB of /dev/zero (deleted)" in said
    assert f"{name}: 13 processes" in advice
    assert advice.count("\n1. ") == 1
    assert advice.count("nothing to do") <= 1


def _hostless(record: Record) -> Record:
    return replace(record, host="") if isinstance(record, Facts) else record


@pytest.mark.parametrize("name", _PROGRAMS)
def test_live_and_replay_and_census_agree(name: str, tmp_path: Path) -> None:
    """With PTESCOPE_UPDATE=1 the test replaces the stored trace."""
    trace = tmp_path / "t.arrows"
    writer = TraceWriter(trace, change=lambda: _hostless)
    with _PROGRAMS[name]() as program, watching() as attach:
        pids = program.workers if name == "postgres" else (program.pid, *program.workers)
        pids = pids[:_HELD_PROCESSES]
        sessions = [attach(pid, writer.tee()) for pid in pids]
        writer.start()
        for session in sessions:
            session.stop()
        live = [session.snapshot() for session in sessions]
        writer.close()
        read = _census(*pids)
    with open_trace(str(trace)) as reader:
        replay = Replay(reader)
        replay.run()
    assert document(replay.snapshots()) == document(live)
    for one, other in zip(live, read, strict=True):
        assert one.mappings == other.mappings
        assert one.mappings_named
    if os.environ.get("PTESCOPE_UPDATE"):
        shutil.copyfile(trace, HELD / f"{name}.arrows")
