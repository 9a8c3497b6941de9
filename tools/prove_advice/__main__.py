# SPDX-License-Identifier: GPL-2.0-only
"""The proof table: tools/prove-advice [NAME [RULE]].

This follows each program under load and applies the finding of one rule: it puts the printed
settings into the environment, or has the program make the call itself. Then it runs the program
again without following it. After each run, once the program is idle, a census reads its PTE pages;
the difference is what the advice saved.
"""

import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from shadow.advice import Evidence, Finding, advise, judge
from shadow.advice.collect import evidence_of
from shadow.advice.family import JudgedProcess, advise_family
from shadow.history import HistoryStore
from shadow.precompile import prepare
from tools.prove_advice.cases import CASES, Case
from tools.prove_advice.programs import Program
from tools.remedy.build import built_remedy
from tracer.census import Reader, open_reader
from tracer.follow.loop import Pace, follow
from tracer.follow.session import Session
from tracer.kernel import KernelFacts, kernel_facts
from tracer.probes.stream import Probes
from tracer.process.target import open_target

__all__: tuple[str, ...] = ()

_SETTING = re.compile(r"([A-Za-z_]+)=(\S+)(?:  # .*)?")
_SETTLED = 1.0
_PACE = Pace(busy=0, idle=0.002)
"""The programs are as busy as they can be."""
_COLUMNS = (
    "program",
    "rule",
    "change",
    "PTE pages",
    "empty",
    "changed",
    "empty",
    "predicted",
    "saved",
    "",
)


@dataclass(frozen=True)
class _Tables:
    pte_pages: int
    empty: int


def _measure(case: Case, program: Program, reader: Reader) -> _Tables:
    pids = program.family() if case.family else [program.pid]
    found = [reader.census(open_target(pid)) for pid in pids]
    return _Tables(
        sum(census.pte_pages for census in found),
        sum(int(census.occupancy[0]) for census in found),
    )


def _watch(case: Case, program: Program, kernel: KernelFacts, reader: Reader) -> Evidence:
    """Follow a program under load and until it has been idle for a while."""
    kept = HistoryStore().process()
    probes = Probes(geometry=kernel.geometry)
    try:
        probes.add(program.pid)
        session = Session(open_target(program.pid), probes, kernel, reader, kept)
        session.seed()
        program.begin()
        follow(session.follow, lambda: program.done.is_set() or session.ended, pace=_PACE)
        follow(session.follow, lambda: session.ended, duration=case.rest, pace=_PACE)
        session.stop()
        return evidence_of(session.engine, time.monotonic_ns(), kept.take())
    finally:
        probes.close()


def _judged(program: Program, kernel: KernelFacts, reader: Reader) -> list[JudgedProcess]:
    """The processes of a family that is idle."""
    judged, pids = list[JudgedProcess](), program.family()
    probes = Probes(geometry=kernel.geometry)
    try:
        for pid in pids:
            probes.add(pid)
            session = Session(open_target(pid), probes, kernel, reader)
            session.seed()
            session.stop()
            evidence = evidence_of(session.engine, time.monotonic_ns(), None, len(pids))
            judged.append(JudgedProcess(evidence, judge(evidence)))
    finally:
        probes.close()
    return judged


def _findings(case: Case, program: Program, kernel: KernelFacts, reader: Reader) -> list[Finding]:
    """The advice on a program after its work."""
    if not case.family:
        return advise(_watch(case, program, kernel, reader))
    program.begin()
    program.done.wait()
    return advise_family(case.name, _judged(program, kernel, reader)).findings


def _changed(case: Case, finding: Finding, reader: Reader) -> tuple[str, _Tables]:
    """Run the program under the change; returns the change and the result."""
    how = finding.change.how if finding.change else []
    found = [match for line in how if (match := _SETTING.fullmatch(line))]
    settings = {match[1]: match[2] for match in found} | case.beside
    with case.start(case.settings | settings) as program:
        program.begin()
        program.done.wait()
        time.sleep(case.rest)
        if case.obey:
            case.obey(program, finding)
            time.sleep(_SETTLED)
        return " ".join(f"{k}={v}" for k, v in settings.items()), _measure(case, program, reader)


def _prove(case: Case, kernel: KernelFacts, reader: Reader) -> str:
    with case.start(case.settings) as program:
        findings = _findings(case, program, kernel, reader)
        before = _measure(case, program, reader)
        finding = next((f for f in findings if f.rule == case.rule), None)
        if finding is None or finding.effect is None:
            said = "nothing" if finding is None else "no prediction"
            return _row(case, "-", before, None, said, "-", "-")
        if case.in_place and case.obey:
            case.obey(program, finding)
            time.sleep(_SETTLED)
            change, after = "its own call", _measure(case, program, reader)
    if not case.in_place:
        change, after = _changed(case, finding, reader)
    saved, effect = before.pte_pages - after.pte_pages, finding.effect
    inside = "yes" if effect.least <= saved <= effect.most else "NO"
    predicted = f"{effect.least:,} to {effect.most:,}"
    return _row(case, change, before, after, predicted, f"{saved:,}", inside)


def _row(
    case: Case, change: str, before: _Tables, after: _Tables | None, predicted: str, saved: str,
    inside: str,
) -> str:  # fmt: skip
    cells = [case.name, case.rule, change, f"{before.pte_pages:,}", f"{before.empty:,}"]
    cells += [f"{after.pte_pages:,}", f"{after.empty:,}"] if after else ["-", "-"]
    return f"| {' | '.join([*cells, predicted, saved, inside])} |"


def main() -> None:
    """Run the cases, and print each row as it is measured."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    rule = sys.argv[2] if len(sys.argv) > 2 else ""
    prepare()
    kernel = kernel_facts()
    reader = open_reader(kernel.geometry)
    print(f"{kernel.release}, {reader.why}\n")
    print(f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        built_remedy(Path(folder))
        os.environ["LD_LIBRARY_PATH"] = folder  # advice preloads the remedy by its name
        for case in CASES:
            if name in case.name and rule in case.rule:
                print(_prove(case, kernel, reader), flush=True)
    reader.close()


if __name__ == "__main__":
    main()
