# SPDX-License-Identifier: GPL-2.0-only
"""Find the PTE pages of a process that map nothing, from Python.

Three lines give a table with a row for each PTE page of a process:

    import ptescope
    table = ptescope.census(pid).to_arrow()
    table.to_pandas()

`census` and `attach` read a live process and need root; `replay` and `advise` read a
trace and need no rights. Every result is or contains a `Snapshot`: one process at one moment, as
plain data. An error that the user can act on is a `PtescopeError`.

The first call of `attach`, `replay` or `advise` on a machine compiles the shadow table,
which takes about a minute; the result is cached.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from shadow import advice as _advice_rules
from shadow.advice import Evidence, Finding
from shadow.advice.collect import evidence_of, evidence_of_trace
from shadow.errors import (
    DamagedTraceError,
    NoSuchTargetError,
    NotPermittedError,
    PtescopeError,
    UnsupportedHostError,
    UsageError,
)
from shadow.history import HistoryStore
from shadow.page_columns import pte_pages_of
from shadow.policy import Policy
from shadow.precompile import prepare
from shadow.replay import Replay, open_trace
from shadow.snapshot import Snapshot
from shadow.trace import TraceWriter
from tracer.census import open_reader
from tracer.census.take import take_census
from tracer.follow.live_process import LiveProcess, following
from tracer.kernel import kernel_facts
from tracer.process.target import open_target

__all__ = (
    "Advice",
    "DamagedTraceError",
    "Finding",
    "LiveProcess",
    "NoSuchTargetError",
    "NotPermittedError",
    "Policy",
    "PtescopeError",
    "Snapshot",
    "UnsupportedHostError",
    "UsageError",
    "advise",
    "attach",
    "census",
    "replay",
)


@dataclass(frozen=True)
class Advice:
    """What to change so that one process has fewer empty PTE pages.

    Attributes:
        snapshot: the process at the end of the window.
        findings: the findings, the most important first.
        limits: sentences on what could not be judged, and why.
    """

    snapshot: Snapshot
    findings: list[Finding]
    limits: list[str]


def census(pid: int) -> Snapshot:
    """Read the page tables of a process as they are now.

    This neither stops nor changes the process. `Snapshot.reading` says how the page tables were
    read and whether their sum equals the kernel's VmPTE.

    >>> snapshot = ptescope.census(pid)
    >>> snapshot.now.empty, snapshot.now.pte_pages  # doctest: +ELLIPSIS
    (16, ...)
    >>> snapshot.to_arrow().filter(pc.field("empty")).num_rows
    16

    Args:
        pid: the process.

    Raises:
        NoSuchTargetError: the process does not exist.
        NotPermittedError: this user may not read its page tables.
    """
    kernel = kernel_facts()
    reader = open_reader(kernel.geometry)
    try:
        return take_census(reader, open_target(pid), kernel, slots=True, pages=True)
    except OSError as error:
        raise NoSuchTargetError(
            f"Process {pid} cannot be read: {error.strerror or error}."
        ) from error
    finally:
        reader.close()


@contextmanager
def attach(pid: int, *, trace: str | os.PathLike[str] | None = None) -> Iterator[LiveProcess]:
    """Follow a process while the `with` block runs.

    ptescope reads its page tables at the start, updates them from events, and compares them with
    the real ones at the end. This neither stops nor changes the process.

    >>> with ptescope.attach(pid) as live:
    ...     _ = live.wait(0.2)
    ...     before = live.snapshot()
    >>> before.now.empty
    16
    >>> after = live.snapshot()
    >>> after.audit.empty_missing, after.audit.empty_extra, after.audit.complete
    (0, 0, True)

    Args:
        pid: the process.
        trace: a file to record to, for `replay` and `advise`; it must not exist yet.

    Yields:
        The followed process.

    Raises:
        NoSuchTargetError: the process does not exist.
        NotPermittedError: this user may not load BPF programs or read its page tables.
        UnsupportedHostError: the host lacks something that following needs.
        UsageError: the trace file cannot be created.
    """
    if trace is None:
        with following(pid, None) as live:
            yield live
        return
    writer, begun = TraceWriter(Path(trace)), False
    try:
        with following(pid, writer.tee()) as live:
            writer.start()
            begun = True
            yield live
    finally:
        if begun:
            writer.close()
        writer.discard_unpublished()


def replay(
    trace: str | os.PathLike[str],
    *,
    at: float | None = None,
    policy: Policy | None = None,
    partial: bool = False,
) -> list[Snapshot]:
    """Replay a trace; returns a snapshot of each process, at the end of the trace.

    >>> (snapshot,) = ptescope.replay(trace)
    >>> snapshot.process.comm
    'server'
    >>> under_rfc = ptescope.replay(trace, policy=ptescope.Policy.PTE_REF)
    >>> under_rfc[0].now.empty
    0

    Args:
        trace: a file, or a URL that fsspec can open.
        at: stop this many seconds after the start of the trace; None: at its end.
        policy: show the PTE pages under this policy; None: under that of the recorded kernel.
        partial: for a damaged trace, return the part before the damage instead of raising.

    Raises:
        DamagedTraceError: the trace ends early or was changed.
        UsageError: the trace cannot be opened, or a later version wrote it.
    """
    prepare()
    with open_trace(os.fspath(trace)) as reader:
        run = Replay(reader, at=at)
        run.run()
    if run.damage and not partial:
        raise run.damage
    snapshots = run.snapshots(slots=True, policy=policy)
    return [
        replace(snapshot, pages=pte_pages_of(shadow.table, policy, shadow.facts.threads))
        for shadow, snapshot in zip(run.engines.values(), snapshots, strict=True)
    ]


def advise(source: int | str | os.PathLike[str], *, duration: float = 30.0) -> list[Advice]:
    """Find changes that leave processes with fewer empty PTE pages, and what they save.

    >>> (advice,) = ptescope.advise(trace)
    >>> [finding.rule for finding in advice.findings]
    ['nothing_to_do']

    Args:
        source: the pid of a process to follow, or a trace.
        duration: seconds to follow the process for. They must include the load that leaves empty
            PTE pages, and end once the process is idle.

    Returns:
        An `Advice` for each process.

    Raises:
        PtescopeError: as for `attach` or `replay`.
    """
    if isinstance(source, int):
        open_target(source)  # fail before anything is compiled
    else:
        prepare()
    if isinstance(source, int):
        kept = HistoryStore().process()
        with following(source, kept) as live:
            live.wait(duration)
        return [_advice(evidence_of(live.shadow, time.monotonic_ns(), kept.take()))]
    with open_trace(os.fspath(source)) as reader:
        processes, damage = evidence_of_trace(reader)
        advised = [_advice(each) for each in processes]
    if damage:
        raise damage
    return advised


def _advice(found: Evidence) -> Advice:
    return Advice(found.snapshot, _advice_rules.advise(found), _advice_rules.limits(found))
