# SPDX-License-Identifier: GPL-2.0-only
"""Every reporter escapes names from a process, a trace or a host.

Every public function of `shadow.report` that makes text is in `_REPORTS`, or this fails.
"""

import inspect
import io
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from pyarrow import parquet

import shadow.report
from shadow.advice import advise, judge
from shadow.advice.family import JudgedProcess, advise_family
from shadow.escape import printable
from shadow.family import Family, family_of
from shadow.mappings import MappingUse
from shadow.report.advice import render_advice, render_family_advice
from shadow.report.census import census_table, render_census
from shadow.report.family import families_table, render_family
from shadow.report.metrics import HostCollector
from shadow.report.summary_table import as_row, summary_table, write_parquet
from shadow.report.text import interval_row, render
from shadow.report.top.app import summary
from shadow.report.top.detail import detail
from shadow.report.top.rows import cells, group_cells
from shadow.snapshot import Reading, Snapshot
from shadow.stacks import StackGroup, StackReport
from tests.shadow.advice.build import evidence, jemalloc, pieces, slots
from tests.shadow.hostile import HOSTILE, is_harmless, poisoned
from tests.shadow.hosts import host_view
from tests.shadow.stacks import FRAMES, STACKS, TOTALS
from tests.shadow.trace.traces import END_NS, followed

_READING = Reading(True, "how", {"present": 3}, {"anonymous": 1}, 1, 1000, 0)


def _snapshot(**more: object) -> Snapshot:
    snapshot = followed().snapshot(END_NS, slots=True)
    snapshot = replace(snapshot, empty_slot_vmas=["a mapping"] * len(snapshot.empty_slots or []))
    pages = StackGroup("fault", HOSTILE, 0, "fault", HOSTILE, 2, 3, 1.0)
    totals = replace(TOTALS, problem=HOSTILE)
    snapshot = replace(snapshot, stacks=StackReport(totals, FRAMES, STACKS, [pages]))
    return poisoned(replace(snapshot, **more))  # type: ignore[arg-type, no-any-return]


def _row() -> dict[str, object]:
    return as_row(_snapshot(), trace=HOSTILE, host=HOSTILE, wall_ns=1)


def _advice(*, detail: bool) -> str:
    known = poisoned(evidence(jemalloc(dirty_decay_ms=0), pieces(20), known=slots(20)))
    return render_advice(known, poisoned(advise(known)), detail=detail)


_FILE = MappingUse(
    *("file", HOSTILE, 1, 4, 600.0, 1.0, 1.0, 9, 1.0, 1.0, 0.0, 3 << 20, 0.5, "8:1", 5),
    ranges=[[0, 4096]],
)


def _family() -> Family:
    members = [replace(_snapshot(), mappings=[_FILE]) for _ in range(2)]
    family: Family = poisoned(family_of("name", HOSTILE, members))
    return family


def _family_advice(*, detail: bool) -> str:
    known = poisoned(evidence(jemalloc(dirty_decay_ms=0), pieces(20), known=slots(20)))
    member = JudgedProcess(known, poisoned(judge(known)))
    return render_family_advice(advise_family(HOSTILE, [member] * 3), detail=detail)


_REPORTS: dict[str, Callable[[], str]] = {
    "render": lambda: render(_snapshot()),
    "interval_row": lambda: interval_row(_snapshot()),
    "render_census": lambda: render_census(_snapshot(reading=_READING)),
    "census_table": lambda: census_table([_snapshot(reading=_READING)]),
    "summary_table": lambda: summary_table([_row()]),
    "render_advice": lambda: _advice(detail=True) + _advice(detail=False),
    "render_family": lambda: render_family(_family()),
    "families_table": lambda: families_table([_family()]),
    "render_family_advice": lambda: _family_advice(detail=True) + _family_advice(detail=False),
    "group_cells": lambda: "|".join(group_cells(HOSTILE, poisoned(host_view().processes))),
    "cells": lambda: "\n".join("|".join(cells(poisoned(p))) for p in host_view().processes),
    "detail": lambda: "\n".join(detail(poisoned(p), {}, [1.0], 80) for p in host_view().processes),
    "summary": lambda: summary(poisoned(host_view()), "empty", paused=False),
}
_WITHOUT_TEXT_FROM_OUTSIDE = {
    "as_row", "by_name", "interval_header", "left", "live_line", "matches", "occupancy_lines",
    "right", "share", "size", "slot_map", "sparkline", "write_parquet",
}  # fmt: skip
_OF_THE_PAGE = {
    "assets", "columns_of", "flame_tree", "host_data", "live_page", "live_process_data", "packed",
    "process_data", "report_page",
}  # fmt: skip
"""These make JSON inside a page, whose scripts escape it: tests/page tries them in a browser."""
_OF_REPORTERS = {
    "common_line", "compared_lines", "mapping_lines", "mapping_name", "origin_lines",
    "origins_lines", "stack_lines", "view_from_bytes", "view_to_bytes",
}  # fmt: skip
"""Parts that reporters above are made of."""


@pytest.mark.parametrize("name", _REPORTS)
def test_a_report_is_harmless(name: str) -> None:
    text = _REPORTS[name]()
    assert is_harmless(text)
    assert "own" in text or name == "interval_row"


@pytest.mark.parametrize("name", ["render", "render_census", "render_advice"])
def test_a_name_adds_no_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it could write findings, or commands to be pasted, of its own."""
    hostile = _REPORTS[name]()
    monkeypatch.setattr("tests.shadow.hostile.HOSTILE", "x" * len(printable(HOSTILE)))
    assert len(hostile.splitlines()) == len(_REPORTS[name]().splitlines())


def test_no_reporter_is_forgotten() -> None:
    known = _REPORTS.keys() | _WITHOUT_TEXT_FROM_OUTSIDE | _OF_REPORTERS | _OF_THE_PAGE
    for module in pkgutil.walk_packages(shadow.report.__path__, "shadow.report."):
        found = import_module(module.name)
        for name in getattr(found, "__all__", ()):
            if inspect.isfunction(getattr(found, name)):
                assert name in known, f"{module.name}.{name} is not tried with hostile text"


def test_metrics_stay_valid_whatever_processes_are_called() -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HostCollector(lambda: poisoned(host_view()), top=3))
    text = generate_latest(registry).decode()
    assert is_harmless(text)
    assert len(list(text_string_to_metric_families(text))) > 10
    openmetrics = generate_openmetrics(registry)  # type: ignore[no-untyped-call]
    assert is_harmless(openmetrics.decode())


def test_parquet_takes_every_name() -> None:
    file = io.BytesIO()
    write_parquet([_row()], file)
    (host,) = parquet.read_table(io.BytesIO(file.getvalue())).column("host").to_pylist()
    assert host.endswith("\\xff\\ud800")
