# SPDX-License-Identifier: GPL-2.0-only
"""The line of a report on the remedy for jemalloc, and its place in JSON and traces."""

from dataclasses import asdict, replace

import msgspec
import pytest

from shadow.records import Facts
from shadow.remedy import REMEDY_STATES, Remedy
from shadow.report.format import origin_lines
from shadow.snapshot import Process
from shadow.table.state import HugePages
from shadow.trace.facts import MOST, decode_facts
from tests.shadow.advice.build import evidence, jemalloc

_DONE = Remedy("dontneed", 4, 900, 700, 520, 512, 0, 8, 0)


def _process(remedy: Remedy | None) -> Process:
    return replace(evidence(jemalloc()).snapshot.process, remedy=remedy)


def _line(remedy: Remedy | None) -> str:
    lines = origin_lines(_process(remedy), evidence().snapshot.kernel)
    return "".join(line for line in lines if line.startswith("  remedy "))


def test_a_report_says_how_many_slots_were_swept() -> None:
    assert _line(None) == ""
    swept = "  remedy        512 slots swept, at most 2.0 MiB, 8 left; hooks on 4 arenas"
    assert _line(_DONE) == swept
    assert "512 slots would be swept (dry run)" in _line(replace(_DONE, state="dry_run"))


@pytest.mark.parametrize("state", REMEDY_STATES[3:])
def test_a_report_says_why_it_does_nothing(state: str) -> None:
    said = _line(replace(_DONE, state=state))
    assert said.startswith("  remedy        does nothing: ")
    assert state not in said.split()


def _facts(remedy: Remedy) -> bytes:
    kernel = evidence().snapshot.kernel
    facts = Facts(process=_process(remedy), kernel=kernel, huge=HugePages())
    return msgspec.json.encode(facts)


def test_a_trace_keeps_the_counters_and_checks_them() -> None:
    assert decode_facts(_facts(_DONE)).process.remedy == _DONE
    assert asdict(_process(_DONE))["remedy"]["swept"] == 512
    with pytest.raises(ValueError, match="range"):
        decode_facts(_facts(replace(_DONE, swept=MOST)))
