# SPDX-License-Identifier: GPL-2.0-only
"""Collects the evidence for advice about a process, followed live or read from a trace."""

from collections import Counter as Counted
from collections.abc import Callable, Iterator
from dataclasses import replace

from shadow.advice import Evidence, HostFacts, classify_slots
from shadow.engine import Engine
from shadow.errors import DamagedTraceError
from shadow.history import KEPT_EVENTS, History, HistoryStore
from shadow.memory_limit import MAX_MEMORY
from shadow.replay import Replay
from shadow.table.counters import Counter
from shadow.timeline import Timelines
from shadow.trace import TraceReader
from shadow.whatif import Future

__all__ = ("evidence_of", "evidence_of_trace")

_THP = ("never", "madvise", "always")
"""By `HugePages.thp`."""
_UNSEEDED = "none"


def evidence_of(engine: Engine, now_ns: int, future: Future | None, alike: int = 1) -> Evidence:
    """The evidence about a process at the end of a window.

    Args:
        engine: the engine of the process; nothing else is read.
        now_ns: see `Engine.snapshot`.
        future: the events kept of the window.
        alike: see `Evidence`.
    """
    facts, table = engine.facts, engine.table
    geometry = table.geometry
    snapshot = engine.snapshot(now_ns, slots=True)
    vmas, thp = engine.vmas(), _THP[facts.huge.thp]
    host = HostFacts(
        max_map_count=facts.max_map_count,
        thp=thp,
        resident=table.counter(Counter.REFS) * geometry.page
        + table.counter(Counter.HUGE) * geometry.slot,
        vmas=len(vmas),
    )
    seeded = facts.kernel.seed != _UNSEEDED
    placed = seeded and facts.unplaced == 0 and snapshot.empty_slots is not None
    return Evidence(
        replace(snapshot, empty_slots=None),
        host,
        classify_slots(snapshot.empty_slots or [], vmas, thp, geometry, engine.names)
        if placed
        else None,
        future,
        seeded=seeded,
        ended=facts.ended,
        redacted=facts.redacted,
        alike=alike,
    )


def evidence_of_trace(
    reader: TraceReader,
    keep: int = KEPT_EVENTS,
    max_memory: int = MAX_MEMORY,
    progress: Callable[[int], object] = lambda _: None,
    timelines: Timelines | None = None,
) -> tuple[Iterator[Evidence], DamagedTraceError | None]:
    """The evidence about each process of a trace.

    Args:
        reader: the trace.
        keep: the most events to keep in memory, of all processes together.
        max_memory: limit on the memory of the shadows, bytes.
        progress: called from time to time with the number of bytes read.
        timelines: take the course of time of each process; None: it is not wanted.

    Returns:
        The evidence, produced one process at a time, and the damage, if the trace has any.
    """
    store, kept = HistoryStore(keep), dict[int, History]()
    run = Replay(
        reader,
        max_memory=max_memory,
        progress=progress,
        interval=timelines.interval if timelines else None,
        tick=timelines.note if timelines else None,
        tee=lambda number: kept.setdefault(number, store.process()),
    )
    run.run()

    alike = Counted(engine.facts.process.comm for engine in run.engines.values())

    def processes() -> Iterator[Evidence]:
        for number in list(run.engines):
            end, engine = run.end_of(number), run.engines.pop(number)
            if timelines:
                timelines.end(number, engine, end)
            future = kept.pop(number).take()
            yield evidence_of(engine, end, future, alike[engine.facts.process.comm])

    return processes(), run.damage
