# SPDX-License-Identifier: GPL-2.0-only
"""A redacted trace has the same page tables, but no names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from shadow.engine import Engine
from shadow.events import EVENT, Kind
from shadow.mapping_names import FileName, MappingKind, MappingNames
from shadow.records import Events, Facts, Mappings
from shadow.report.text import render
from shadow.snapshot import Snapshot
from shadow.trace import Redactor, TraceFile
from tests.shadow.build import BASE, PAGE, SLOT, EventScript
from tests.shadow.trace.traces import END_NS, facts, followed, read_all, records

_PMD = 1 << 30


def _redacted() -> Snapshot:
    redact = Redactor()
    first, *others = map(redact, records())
    assert isinstance(first, Facts)
    engine = Engine(first)
    for record in others:
        engine.apply(record)
    return engine.snapshot(END_NS, slots=True)


def test_a_redacted_trace_gives_the_same_page_tables() -> None:
    original, redacted = followed().snapshot(END_NS, slots=True), _redacted()
    same = replace(redacted, process=original.process, empty_slots=original.empty_slots)
    assert same == original
    assert redacted.empty_slots is not None
    assert original.empty_slots is not None
    moves = np.subtract(redacted.empty_slots, original.empty_slots)
    assert moves.all()
    assert not (moves % _PMD).any()


def test_names_paths_and_environment_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "t.arrows"
    redact = Redactor()
    file = TraceFile(path)
    changed = [redact(record) for record in records()]
    for record in changed:
        file.write(1, 7, record)
    file.close()
    text = "".join(str(record) for record in changed if isinstance(record, Facts))
    for secret in ("/usr", "there", "'A'"):
        assert secret in str(facts())
        assert secret not in text
    assert "jemalloc" in text


_STARTS = st.one_of(
    st.integers(1, 1 << 35), st.integers(1, (1 << 35) - 1).map(lambda page: (1 << 35) - page)
).map(lambda page: page * PAGE & (1 << 47) - 1)


@example([(0, 2)])
@given(st.lists(st.tuples(_STARTS, st.integers(1, 600)), min_size=1, max_size=12))
def test_mappings_anywhere_keep_their_page_tables(mapped: list[tuple[int, int]]) -> None:
    """PTE pages and PMD pages stay the same, wherever the memory lies in user space."""
    history = EventScript()
    for start, pages in mapped:
        start = min(start, (1 << 47) - pages * PAGE)
        history.map(start, pages * PAGE).touch(start, pages * PAGE, 64 * PAGE)
        history.add(Kind.FAULT, start + pages * PAGE - 1, 0, 6)
    plain, moved = Engine(facts()), Engine(facts())
    redact = Redactor()
    events = Events(history.batch())
    plain.apply(events)
    moved.apply(redact(events))
    for counter in ("pte_pages", "refs", "occupancy", "pmd_pages"):
        assert getattr(moved.snapshot(END_NS).now, counter) == getattr(
            plain.snapshot(END_NS).now, counter
        )


def test_fields_that_are_no_addresses_do_not_change() -> None:
    rows = [
        (1, 77, 0, 1, 1, Kind.FORK, 0, 0),
        (2, 0, 5, 1, 1, Kind.LOSS, 0, 0),
        (3, 0, 0, 1, 1, Kind.LOCK, 0, 1),
        (4, BASE, SLOT, 1, 1, Kind.DONTNEED, 0, 4),
        (5, (1 << 64) - PAGE, PAGE, 1, 1, Kind.UNMAP_BEGIN, 0, 0),
    ]
    events = np.array(rows, EVENT)
    changed = Redactor()(Events(events))
    assert isinstance(changed, Events)
    others = [0, 1, 2, 4]
    assert changed.batch[others].tolist() == events[others].tolist()
    assert changed.batch["length"][3] == SLOT
    assert changed.batch["address"][3] != BASE


def test_files_stay_distinct_without_their_names() -> None:
    files = {
        5: FileName(MappingKind.FILE, "/home/secret/a", "8:1", 77),
        6: FileName(MappingKind.FILE, "/home/secret/a", "8:1", 77),
        7: FileName(MappingKind.MEMFD, "/memfd:secret (deleted)", "0:1", 78),
        8: FileName(MappingKind.VDSO, "[vdso]"),
    }
    names = MappingNames(files, {9: "[anon:secret]"}, BASE)
    redact = Redactor()
    redacted = redact(Mappings(1000, names=names))
    assert isinstance(redacted, Mappings)
    assert redacted.names
    assert "secret" not in str(redacted)
    assert "77" not in str(redacted)
    assert redacted.names.files[5] == redacted.names.files[6] != redacted.names.files[7]
    assert redacted.names.files[7].kind == MappingKind.MEMFD
    assert redacted.names.files[8].name == "[vdso]"
    assert redacted.names.heap != BASE


def test_names_survive_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "t.arrows"
    names = MappingNames(
        {1 << 33: FileName(MappingKind.FILE, "/a\udcff b", "8:1", (1 << 64) - 1)},
        {3: "[anon:x]"},
        BASE,
    )
    file = TraceFile(path)
    for record in [*records()[:3], Mappings(2_000_000, names=names)]:
        file.write(1, 7, record)
    file.end()
    file.close()
    *_, (_, last) = read_all(path)
    assert isinstance(last, Mappings)
    assert last.names
    assert last.names.labels == names.labels
    assert last.names.heap == BASE
    (found,) = last.names.files.values()
    assert (found.device, found.inode) == ("8:1", (1 << 64) - 1)
    assert found.name == "/a\\xff b"  # a trace escapes bytes that are not Unicode


def test_a_trace_without_names_replays_with_a_note() -> None:
    snapshot = followed().snapshot(END_NS)
    assert snapshot.mappings
    assert not snapshot.mappings_named
    assert "names of files and named memory were not recorded" in render(snapshot)
    engine = followed()
    engine.apply(Mappings(END_NS, names=MappingNames()))
    named = engine.snapshot(END_NS)
    assert named.mappings_named
    assert "were not recorded" not in render(named)
