# SPDX-License-Identifier: GPL-2.0-only
"""Stacks join the PTE pages that their events made and emptied."""

from dataclasses import replace

import numpy as np
import pytest

from shadow import stack_store
from shadow.engine import Engine
from shadow.events import EVENT, Kind
from shadow.memory_limit import NoRoomError, Room
from shadow.records import Events, Record
from shadow.report.stacks import stack_lines
from shadow.report.text import render
from shadow.snapshot import Snapshot
from shadow.stack_store import StackStore
from shadow.stacks import NO_STACK, STACK_SAMPLE, StackReport
from shadow.table.state import HugePages
from tests.shadow.build import BASE, PAGE, SLOT, EventScript
from tests.shadow.stacks import STACKS, stacks
from tests.shadow.trace.traces import facts

_END_NS = 2_000_000_000
_PAGES = 4


def _events() -> Events:
    """Times 1000: map; 2000 to 5000: four faults; 6000 to 9000: four purges; thread 1."""
    script = EventScript().map(BASE, 8 * SLOT).touch(BASE, _PAGES * SLOT, SLOT)
    for slot in range(_PAGES):
        script.dontneed(BASE + slot * SLOT, PAGE)
    return Events(script.batch())


def _engine(*records: Record) -> Engine:
    engine = Engine(replace(facts(), threads={1: "purger"}, huge=HugePages(0, 0, 0)))
    for record in records:
        engine.apply(record)
    return engine


def _snapshot(*records: Record) -> Snapshot:
    return _engine(*records).snapshot(_END_NS)


def _report(*records: Record) -> StackReport:
    report = _snapshot(*records).stacks
    assert report is not None
    return report


def _emptied(report: StackReport) -> dict[str, int]:
    """PTE pages by the innermost function of the stack that emptied them."""
    pages: dict[str, int] = {}
    for group in report.pages:
        name = "none"
        if group.emptied_stack is not None:
            name = str(report.frames[report.stacks[group.emptied_stack].frames[0]])
        pages[name] = pages.get(name, 0) + group.pte_pages
    return pages


def test_without_stacks_there_is_no_report() -> None:
    snapshot = _snapshot(_events())
    assert snapshot.stacks is None
    assert "stacks" not in snapshot.as_json()
    assert stack_lines(None) == []


@pytest.mark.parametrize("before", [True, False])
def test_a_page_has_the_stacks_of_its_thread_and_time(before: bool) -> None:
    """Samples may come before or after their events."""
    record = stacks([(2000, 1, 1), (6000, 1, 0), (7000, 1, 0), (8000, 1, 1)])
    records: list[Record] = [record, _events()]
    report = _report(*(records if before else records[::-1]))
    assert _emptied(report) == {"madvise": 2, "purge": 1, "none": 1}
    (made,) = (group for group in report.pages if group.made_stack is not None)
    assert (made.made_call, made.made_by) == ("fault", "purger")
    assert (made.emptied_call, made.emptied_by, made.pte_pages) == ("MADV_DONTNEED", "purger", 1)
    assert made.page_seconds == pytest.approx((_END_NS - 6000) / 1e9, abs=0.001)
    assert sum(group.pte_pages for group in report.pages) == _PAGES


@pytest.mark.parametrize("sample", [(6000, 2, 0), (6001, 1, 0), (5999, 1, 0), (6000, 1, NO_STACK)])
def test_another_thread_or_time_is_another_event(sample: tuple[int, int, int]) -> None:
    assert _emptied(_report(_events(), stacks([sample]))) == {"none": _PAGES}


def test_numbers_go_on_in_later_records_and_begin_again_after_a_gap() -> None:
    first, second = stacks([(6000, 1, 0)]), stacks([(7000, 1, 1)], first=False)
    engine = _engine(_events(), first, second)
    again = engine.stacks.restated(5)
    assert again is not None
    assert len(again.samples) == 2
    for other in (_engine(_events(), again), _engine(first, again, _events(), again)):
        assert other.snapshot(_END_NS).stacks == engine.snapshot(_END_NS).stacks
    assert StackStore().restated(5) is None


def test_a_report_has_only_the_stacks_that_it_shows() -> None:
    report = _report(_events(), stacks([(6000, 1, 1)]))
    assert len(report.stacks) == 1
    assert [str(report.frames[each]) for each in report.stacks[0].frames] == ["purge", "main"]


def test_samples_that_no_page_refers_to_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_store, "_MOST_SAMPLES", 100)
    many = [(100_000 + 1000 * number, 1, 0) for number in range(200)]
    engine = _engine(_events(), stacks([(2000, 1, 1), (6000, 1, 0), (6500, 1, 0)]))
    last = np.array([(150_000, BASE + 7 * SLOT, 0, 1, 1, Kind.FAULT, 0, 6)], EVENT)
    engine.apply(Events(last))
    engine.apply(stacks(many, first=False))
    again = engine.stacks.restated(0)
    assert again is not None
    times = again.samples["time"].tolist()
    # Those of later events stay, because their events may still come.
    assert times == sorted([2000, 6000, 150_000, *(each[0] for each in many if each[0] > 150_000)])


def test_the_memory_of_stacks_is_limited() -> None:
    small = Engine(facts(), room=Room(96 << 20))
    record = replace(stacks([]), frames=stacks([]).frames * 9000, stacks=[STACKS[0]] * 16_000)
    small.apply(record)
    with pytest.raises(NoRoomError):
        small.apply(replace(record, first_frame=len(record.frames), first_stack=16_000))


def test_the_lines_show_counts_and_paths() -> None:
    report = _report(_events(), stacks([(6000, 1, 0), (7000, 1, 0), (8000, 1, 2)]))
    lines = stack_lines(report)
    text = "\n".join(lines)
    assert "3   of 3 events that made or emptied a PTE page" in text
    assert "4   of 6 other calls and faults; at most 1,000 a second" in text
    path = "MADV_DONTNEED: madvise < libjemalloc.so.2 (2 frames) < purge < main"
    assert any(line.endswith(f"2 of 4   {path}") for line in lines)
    assert any(line.endswith("1 of 4   without a stack") for line in lines)
    assert "[python]" in text


def test_a_report_shows_hostile_names_escaped() -> None:
    text = render(_snapshot(_events(), stacks([(6000, 1, 2)])))
    assert "evil" in text
    assert all(line.isprintable() for line in text.splitlines())


def test_long_names_are_cut_in_lines() -> None:
    record = stacks([(6000, 1, 1)])
    frames = [replace(frame, function="x" * 500) for frame in record.frames]
    lines = stack_lines(_report(_events(), replace(record, frames=frames)))
    assert max(map(len, lines)) < 300


def test_losses_and_problems_are_reported() -> None:
    record = stacks([])
    totals = replace(record.totals, lost=5, unread=2, problem="The unwinder ended.")
    text = "\n".join(stack_lines(_report(_events(), replace(record, totals=totals))))
    assert "LOST          5 stacks" in text
    assert "2 could not be read" in text
    assert "note          The unwinder ended." in text


def test_an_empty_process_has_no_groups() -> None:
    report = _report(replace(stacks([]), samples=np.empty(0, STACK_SAMPLE)))
    assert not report.pages
    assert not report.stacks
    assert not report.frames
