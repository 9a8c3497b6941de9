# SPDX-License-Identifier: GPL-2.0-only
"""A trace says the shape of its page tables, and any machine replays it with them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shadow.engine import Engine
from shadow.errors import DamagedTraceError
from shadow.geometry import GEOMETRIES, MODELLED, X86_64, Geometry, find_geometry
from shadow.records import Facts
from shadow.replay import Replay, open_trace
from shadow.report.text import render
from shadow.snapshot import Kernel, document
from shadow.trace import Redactor, TraceFile
from tests.shadow.trace.traces import END_NS, facts, followed, live_document, records, write_trace

_ALL = pytest.mark.parametrize("geometry", MODELLED, ids=lambda each: each.name)


def _replayed(path: Path) -> Replay:
    with open_trace(str(path)) as reader:
        replay = Replay(reader)
        replay.run()
    return replay


@_ALL
def test_a_replay_gives_the_live_document_to_the_byte(geometry: Geometry, tmp_path: Path) -> None:
    write_trace(tmp_path / "t.arrows", geometry=geometry)
    replay = _replayed(tmp_path / "t.arrows")
    assert replay.damage is None
    found = json.dumps(document(replay.snapshots(slots=True)))
    assert found == json.dumps(live_document(7, geometry=geometry))
    (snapshot,) = replay.snapshots()
    assert snapshot.kernel.geometry is geometry
    assert len(snapshot.now.occupancy) == geometry.entries + 1
    assert snapshot.now.vm_pte_predicted_kib % geometry.page_kib == 0


@_ALL
def test_the_same_history_in_slots_has_the_same_tables(geometry: Geometry) -> None:
    """The history of these records is in slots, so only the sizes differ."""
    here = followed(geometry=geometry).snapshot(END_NS)
    there = followed().snapshot(END_NS)
    for name in ("pte_pages", "empty", "thp_deposits"):
        assert getattr(here.now, name) == getattr(there.now, name)
    for label, outcome in there.policies.items():
        assert replace(here.policies[label], mean=0.0, saved_page_seconds=0.0) == replace(
            outcome, mean=0.0, saved_page_seconds=0.0
        )
    assert here.now.pud_pages == (there.now.pud_pages if geometry.has_puds else 0)


@_ALL
def test_a_redacted_trace_keeps_its_page_tables(geometry: Geometry, tmp_path: Path) -> None:
    redact = Redactor()
    file = TraceFile(tmp_path / "t.arrows")
    for record in records(geometry=geometry):
        file.write(1, 7, redact(record))
    file.end()
    file.close()
    replay = _replayed(tmp_path / "t.arrows")
    assert replay.damage is None
    (redacted,) = replay.snapshots()
    original = followed(geometry=geometry).snapshot(END_NS)
    assert replace(redacted.now, pud_pages=0, vm_pte_predicted_kib=0) == replace(
        original.now, pud_pages=0, vm_pte_predicted_kib=0
    )
    assert redacted.policies == original.policies


def test_a_trace_may_have_processes_of_several_shapes(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "t.arrows")
    for number, geometry in enumerate(MODELLED, 1):
        for record in records(number, geometry):
            file.write(number, number, record)
    file.end()
    file.close()
    replay = _replayed(tmp_path / "t.arrows")
    assert replay.damage is None
    expected = [
        followed(number, geometry=geometry).snapshot(END_NS, slots=True)
        for number, geometry in enumerate(MODELLED, 1)
    ]
    assert replay.snapshots(slots=True) == expected


def test_facts_without_an_architecture_mean_x86_64() -> None:
    kernel = Kernel("6.18.0", "none", 4, 4096, "none")
    assert kernel.geometry is X86_64
    assert replace(kernel, levels=5).geometry.user_bytes == 1 << 56


@pytest.mark.parametrize(
    "change",
    [
        {"page_size": 1 << 16},
        {"levels": 3},
        {"levels": 1 << 40},
        {"arch": "arm64", "user_address_bits": 52},
        {"arch": "arm64", "page_size": 1 << 14, "levels": 5},
        {"arch": "vax"},
    ],
    ids=str,
)
def test_unknown_page_tables_are_damage(change: dict[str, object], tmp_path: Path) -> None:
    known = facts()
    file = TraceFile(tmp_path / "t.arrows")
    file.write(1, 7, replace(known, kernel=replace(known.kernel, **change)))  # type: ignore[arg-type]
    file.end()
    file.close()
    replay = _replayed(tmp_path / "t.arrows")
    assert isinstance(replay.damage, DamagedTraceError)
    assert "page tables of" in str(replay.damage)
    assert not replay.engines


@_ALL
def test_a_report_states_sizes_of_this_geometry(geometry: Geometry) -> None:
    engine = followed(geometry=geometry)
    text = render(engine.snapshot(END_NS, slots=True))
    assert f"fewer than {geometry.entries // 16} entries" in text
    assert (geometry.arch in text) is (geometry.arch == "arm64")
    bands = [line.split()[0] for line in text.splitlines() if line.endswith("#" * 4)]
    assert bands
    assert f"{geometry.entries:6}" in text


def test_every_modelled_geometry_is_found_by_what_a_trace_says() -> None:
    assert set(MODELLED) < set(GEOMETRIES)
    for each in MODELLED:
        found = find_geometry(each.arch, each.page, each.levels, each.user_address_bits)
        assert found is each
        # Compiled code relies on these.
        assert 1 << each.index_bits[0] == each.page // 8
        assert set(each.index_bits[:-1]) == {each.entry_bits}


def test_an_engine_takes_its_geometry_from_the_first_facts() -> None:
    (geometry,) = (each for each in MODELLED if each.page == 1 << 16)
    first = facts(geometry=geometry)
    assert isinstance(first, Facts)
    assert Engine(first).table.geometry is geometry
