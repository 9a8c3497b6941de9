# SPDX-License-Identifier: GPL-2.0-only
"""The advice on the processes of a run or of traces, as text and as JSON."""

from argparse import Namespace, _ActionsContainer
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console
from rich.progress import Progress

from shadow import replay
from shadow.advice import Evidence, advise, judge, limits
from shadow.advice.collect import evidence_of_trace
from shadow.advice.family import FamilyAdvice, JudgedProcess, advise_family
from shadow.errors import DamagedTraceError, PtescopeError
from shadow.history import KEPT_EVENTS
from shadow.precompile import prepare
from shadow.replay.span import span_of
from shadow.report.advice import render_advice, render_family_advice
from shadow.report.page.data import PageProcess, Source
from shadow.snapshot import SCHEMA
from shadow.timeline import Timelines
from shadow.trace import TraceReader
from tracer.commands.argument_types import whole

__all__ = ("Advised", "add_keep", "advise_on_traces")


def add_keep(parser: _ActionsContainer) -> None:
    """Declare the bound on the events that advice keeps to run them again."""
    parser.add_argument(
        "--keep",
        type=whole,
        default=KEPT_EVENTS,
        metavar="EVENTS",
        help="events to keep in memory, 40 bytes each, for all processes of a trace together "
        f"(default: {KEPT_EVENTS:,})",
    )


@dataclass
class Advised:
    """The advice on all processes so far."""

    texts: list[str] = field(default_factory=list)
    processes: list[dict[str, Any]] = field(default_factory=list)
    families: list[dict[str, Any]] = field(default_factory=list)

    def add(self, found: Iterable[Evidence], *, detail: bool) -> None:
        """Advise on the processes of one run: those of one name as one."""
        judged: dict[str, list[JudgedProcess]] = {}
        for evidence in found:
            findings = judge(evidence)
            own = advise(evidence, findings)
            plain = evidence.snapshot.as_json()
            plain["advice"] = [finding.as_json() for finding in own]
            plain["advice_limits"] = limits(evidence)
            self.processes.append(plain)
            name = evidence.snapshot.process.comm
            if evidence.alike == 1:
                self.texts.append(render_advice(evidence, own, detail=detail))
            else:  # what it did is not needed any more
                member = JudgedProcess(replace(evidence, future=None), findings)
                judged.setdefault(name, []).append(member)
        for name, members in judged.items():
            self._add_family(advise_family(name, members), detail=detail)

    def _add_family(self, advice: FamilyAdvice, *, detail: bool) -> None:
        plain = advice.family.as_json()
        plain["advice"] = [finding.as_json() for finding in advice.findings]
        plain["advice_limits"] = advice.limits
        self.families.append(plain)
        self.texts.append(render_family_advice(advice, detail=detail))

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        plain = {"schema": SCHEMA, "processes": self.processes}
        return plain | {"families": self.families} if self.families else plain


def advise_on_traces(
    places: Sequence[str], args: Namespace, sources: list[Source] | None = None
) -> tuple[Advised, list[PageProcess], list[PtescopeError]]:
    """Advise on the processes of traces.

    Args:
        places: see `shadow.replay.find_traces`.
        args: `keep`, `max_memory` and `detail`.
        sources: collects the traces; None: no page is wanted.

    Returns:
        The advice, the processes of a page, and what makes the advice incomplete.

    Raises:
        UsageError: one of the places has no trace.
    """
    advised, pages, problems = Advised(), list[PageProcess](), list[PtescopeError]()
    urls = replay.find_traces(places)
    prepare()
    for url in urls:
        problem: PtescopeError | None = None
        timelines = None
        try:
            if sources is not None:
                with replay.open_trace(url, args.max_memory) as reader:
                    timelines = Timelines(span_of(reader))
            with replay.open_trace(url, args.max_memory) as reader:
                problem = _of_trace(reader, args, advised, timelines)
        except PtescopeError as error:
            problem = error
        if problem:
            problems.append(problem)
        if sources is not None:
            number = len(sources)
            pages += [PageProcess.of_timeline(each, number) for each in timelines or ()]
            sources.append(Source(url, str(problem) if problem else None))
    return advised, pages, problems


def _of_trace(
    reader: TraceReader, args: Namespace, advised: Advised, timelines: Timelines | None
) -> DamagedTraceError | None:
    """Add advice on each process of a trace; returns the damage of the trace, if any."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("replaying", total=reader.size)
        processes, damage = evidence_of_trace(
            reader,
            args.keep,
            args.max_memory,
            lambda done: bar.update(task, completed=done),
            timelines,
        )
    advised.add(processes, detail=args.detail)
    return damage
