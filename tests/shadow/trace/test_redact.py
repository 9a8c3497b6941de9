# SPDX-License-Identifier: GPL-2.0-only
"""A redacted trace has the same page tables, and no names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from shadow.engine import Engine
from shadow.events import EVENT, Kind
from shadow.records import Events, Facts
from shadow.snapshot import Snapshot
from shadow.trace import Redactor, TraceFile
from tests.shadow.build import BASE, PAGE, SLOT, EventScript
from tests.shadow.trace.traces import END_NS, facts, followed, records

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
    """PTE pages and PMD pages of memory anywhere in user space stay the same."""
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


def test_what_is_no_address_is_left_alone() -> None:
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
