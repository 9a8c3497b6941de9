# SPDX-License-Identifier: GPL-2.0-only
"""The checks in a guest: python -m tests.vm.guest FOLDER; prints a line of JSON for each.

The guest follows a process that makes and empties PTE pages in steps, one that runs the
experiments of tests/live/semantics_rows.py, Redis and, with each back end, a deterministic
program. FOLDER/trace.arrows has the trace of the first process, and FOLDER/live.json its last
snapshot.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from shadow.errors import UnsupportedHostError
from shadow.policy import Policy
from shadow.snapshot import document
from shadow.table.counters import Counter
from shadow.table.page_set import Pages
from shadow.trace import TraceWriter
from tests.live.actor import SLOT, Actor
from tests.live.attached import Attacher, quiet_truth, watching
from tests.live.semantics_rows import BASE, FAR, ROWS, SLOTS
from tests.live.steps import FUNCTIONS_ONLY, what_is_known
from tests.vm.kcore import Kcore
from tests.vm.say import say
from tools.workloads.redis import private_redis
from tracer.follow.session import Session
from tracer.kernel import kernel_facts
from tracer.page_size import PAGE
from tracer.probes.selftest import check
from tracer.probes.sources import SOURCES, Backend
from tracer.probes.stream import Probes

_Read = TypeVar("_Read")
_THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
_ALWAYS = "1"
"""With pages of 16 KiB, the areas are larger than the memory of the guest."""
_STORM = """
import mmap
area = mmap.mmap(-1, 16 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area.madvise(mmap.MADV_NOHUGEPAGE)
print(flush=True)
while True:
    for page in range(0, len(area), mmap.PAGESIZE):
        area[page] = 1
    area.madvise(mmap.MADV_DONTNEED)
"""
_STORM_SECONDS = 5.0
_DONTNEED, _FREE, _NOHUGEPAGE = 4, 8, 15
AREA = 128
"""Number of PTE pages that the first process makes and empties."""
_END = BASE + AREA * SLOT


def in_area(slots: list[int]) -> list[int]:
    """The slots that the first process makes and empties."""
    return [slot for slot in slots if BASE <= slot < _END]


def still(session: Session, read: Callable[[], _Read]) -> _Read:
    """The result of `read` at a moment without events, with an up-to-date session."""
    while True:
        while session.pump():
            pass
        found = read()
        time.sleep(0.01)
        if not session.pump():
            return found


def _real(session: Session) -> Pages:
    return session.reader.pages(session.target, session.target.vmas())


def _purge(actor: Actor, piece: int, advice: int, slots: int = AREA) -> None:
    for start in range(BASE, BASE + slots * SLOT, piece):
        actor.advise(start, piece, advice)


def _fill(actor: Actor) -> None:
    actor.touch(BASE, AREA * SLOT, 16 * PAGE)


def _compare(name: str, session: Session, kcore: Kcore) -> None:
    """Print the results of the shadow, the census and kcore for a quiet process."""
    census, pages, oracle = still(
        session,
        lambda: (
            session.reader.census(session.target),
            _real(session),
            kcore.pte_pages(session.target.pid),
        ),
    )
    real = pages.entries_by_slot()
    table = session.table
    say(
        "step",
        name=name,
        vm_pte_kib=census.vm_pte_kib,
        sum_kib=census.sum_kib,
        pte_pages=len(in_area(list(real))),
        empty=len(in_area([slot for slot, entries in real.items() if not entries])),
        shadow_equal=table.pages().entries_by_slot() == real,
        oracle_equal=oracle == real,
        oracle_tables=len(oracle),
        lost=table.counter(Counter.LOST),
        predicted={p.label: len(in_area(table.slots_of(p).tolist())) for p in Policy},
    )


def steps(folder: Path, kcore: Kcore, attach: Attacher) -> None:
    """Make and empty PTE pages in steps, compare after each, and keep a trace."""
    actor = Actor()
    actor.map(BASE, AREA * SLOT)
    actor.advise(BASE, AREA * SLOT, _NOHUGEPAGE)
    writer = TraceWriter(folder / "trace.arrows", force=True)
    session = attach(actor.pid, writer.tee())
    writer.start()
    steps: list[tuple[str, Callable[[], object]]] = [
        ("filled", lambda: _fill(actor)),
        ("DONTNEED, one call", lambda: actor.advise(BASE, AREA * SLOT, _DONTNEED)),
        ("filled again", lambda: _fill(actor)),
        ("DONTNEED by halves", lambda: _purge(actor, SLOT // 2, _DONTNEED)),
        ("filled once more", lambda: _fill(actor)),
        ("FREE by halves", lambda: _purge(actor, SLOT // 2, _FREE)),
        ("filled at last", lambda: _fill(actor)),
        ("DONTNEED by slots of one half", lambda: _purge(actor, SLOT, _DONTNEED, AREA // 2)),
    ]
    for name, act in steps:
        act()
        _compare(name, session, kcore)
    session.stop()
    (folder / "live.json").write_text(json.dumps(document([session.snapshot(slots=True)])))
    writer.close()
    actor.close()


def experiments(attach: Attacher) -> None:
    """Run the rows of the reference, and print those with which the shadow differs."""
    actor = Actor()
    session = attach(actor.pid)
    wrong, impossible = [], []
    for row in ROWS:
        try:
            row.act(actor)
        except AssertionError:  # this kernel lacks the call
            impossible.append(row.number)
        real = still(session, lambda: _real(session))
        if real.entries_by_slot() != session.table.pages().entries_by_slot():
            wrong.append(row.number)
            session.audit()
        actor.do("munmap", BASE, (FAR + SLOTS) * SLOT)
    say("rows", tried=len(ROWS), wrong=wrong, impossible=impossible)
    actor.close()


def _doctor() -> None:
    """Run doctor, with the back end that attaches fastest: fentry takes two minutes on 6.1."""
    command = [sys.executable, "-m", "tracer", "doctor", "--backend", Backend.TRACEPOINT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    say("doctor", status=done.returncode, out=done.stdout + done.stderr)


def _probes(probes: Probes) -> None:
    """Print the back end of each source, and whether its events arrive."""
    first = check(probes)
    say(
        "probes",
        by=probes.attachments.by_backend(),
        sources={
            source.name: {"needed": source.needed, "methods": [m.backend for m in source.methods]}
            for source in SOURCES
        },
        refused={
            name: attachment.refused for name, attachment in probes.attachments.by_source.items()
        },
        seen=sorted(first.seen),
        silent=sorted(first.silent),
        untried=first.untried,
    )


def _outcomes(attach: Attacher) -> None:
    """Check that the shadow has pinned pages, but no page of a failed fault."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.vm.outcomes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin
        assert child.stdout
        start = int(child.stdout.readline())
        session = attach(child.pid)
        child.stdin.write("\n")
        child.stdin.flush()
        child.stdout.readline()
        while session.pump():
            pass
        entries = session.table.pages().entries_by_slot()
        session.audit()
        say("outcomes", pinned=entries.get(start), audit=asdict(session.audits))
        child.stdin.close()


def _back_ends() -> None:
    """Print the results for a deterministic program, with each back end."""
    for backend in Backend:
        begin = time.monotonic()
        try:
            known = what_is_known(backend)
        except UnsupportedHostError as error:
            say("refused back end", name=backend, why=str(error))
            continue
        events = known.document["window"]["events"]
        seen = {kind: events.pop(kind, 0) for kind in FUNCTIONS_ONLY}
        seconds = round(time.monotonic() - begin, 1)
        say(
            "back end",
            name=backend,
            known=known.document,
            before=known.before,
            taken=known.taken,
            seen=seen,
            seconds=seconds,
        )


def _redis(attach: Attacher) -> None:
    with private_redis(MALLOC_CONF="dirty_decay_ms:500") as redis:
        session = attach(redis.pid)
        redis.fill(300_000, 400)
        redis.flush()
        time.sleep(2)
        truth = quiet_truth(session, 30)
        census = session.reader.census(session.target)
        known = session.snapshot().now
        assert census.empty_slots is not None
        say(
            "redis",
            pte_pages=[census.pte_pages, known.pte_pages],
            empty=[len(census.empty_slots), known.empty],
            truth=[truth.pte_pages, truth.empty],
            lost=session.table.counter(Counter.LOST),
            events=session.events,
        )


def _storms(attach: Attacher) -> None:
    """Print how many events the kernel skipped while three page-fault storms shared a processor."""
    command = [sys.executable, "-c", _STORM]
    storms = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    for storm in storms:
        assert storm.stdout
        storm.stdout.readline()
    session = attach(storms[0].pid)
    end = time.monotonic() + _STORM_SECONDS
    while time.monotonic() < end:
        session.pump()
        time.sleep(0.02)
    attach.probes.count_missed()
    say("storms", events=session.events, missed=attach.probes.missed)
    for storm in storms:
        storm.kill()
        storm.communicate()


def main() -> None:
    """Run all checks."""
    begin = time.monotonic()
    _THP.write_text("madvise")
    _OVERCOMMIT.write_text(_ALWAYS)
    kernel = kernel_facts()
    say(
        "kernel",
        release=kernel.release,
        levels=kernel.levels,
        policy=kernel.policy.label,
        geometry=kernel.geometry.name,
    )
    kcore = Kcore(kernel.geometry)
    with watching() as attach:
        _probes(attach.probes)
        steps(Path(sys.argv[1]), kcore, attach)
        experiments(attach)
        _redis(attach)
        _outcomes(attach)
        _storms(attach)
    kcore.close()
    _doctor()
    _back_ends()
    say("end", seconds=round(time.monotonic() - begin, 1))


if __name__ == "__main__":
    main()
