# SPDX-License-Identifier: GPL-2.0-only
"""Stacks in a stored trace of a program with known functions, on any machine.

tests/live/test_stacks.py records the trace (PTESCOPE_UPDATE=1 replaces it).
"""

from collections import Counter
from pathlib import Path

from shadow.replay import Question, replay_one
from shadow.report.text import render
from shadow.snapshot import Snapshot
from shadow.stacks import StackReport
from tracer.cli import main

HELD = Path(__file__).with_name("held") / "stacks.arrows"
EMPTIED = {
    ("purge_run", "purge_three", "purge", "named"): 3,
    ("purge_run", "purge_five", "purge", "named"): 5,
    ("cut_mapping", "cut", "named"): 4,
    ("move_page", "move", "named"): 1,
}
"""By functions of the program, innermost first: PTE pages that they empty."""


def _snapshot() -> Snapshot:
    outcome = replay_one(str(HELD), Question())
    assert outcome.problem is None
    (followed,) = outcome.followed
    return followed.snapshot


def _report(snapshot: Snapshot) -> StackReport:
    assert snapshot.stacks is not None
    return snapshot.stacks


def emptied_by_functions(report: StackReport) -> Counter[tuple[str, ...]]:
    """Empty PTE pages by the functions of the program that emptied them."""
    pages: Counter[tuple[str, ...]] = Counter()
    for group in report.pages:
        if group.emptied_stack is not None:
            frames = [report.frames[each] for each in report.stacks[group.emptied_stack].frames]
            own = tuple(each.function or "?" for each in frames if each.module == "known-stacks")
            pages[own] += group.pte_pages
    return pages


def test_the_functions_of_the_program_have_their_pte_pages() -> None:
    assert HELD.stat().st_size < 50_000
    report = _report(_snapshot())
    assert emptied_by_functions(report) == EMPTIED
    assert report.totals.complete == report.totals.unwound == report.totals.taken
    assert report.totals.sure_taken == report.totals.sure > 60


def test_every_empty_pte_page_was_filled_by_the_same_code() -> None:
    report = _report(_snapshot())
    made = set()
    for group in report.pages:
        if group.emptied_stack is not None:
            assert group.made_stack is not None
            stack = report.stacks[group.made_stack]
            made.add(report.frames[stack.frames[0]].function)
    assert made == {"touch_slot"}


def test_the_text_names_the_largest() -> None:
    text = render(_snapshot())
    assert "MADV_DONTNEED: __madvise < purge_run < purge_five < purge < named < " in text
    assert "fault: touch_slot < fill_some < fill_low < fill < named < " in text


def test_an_export_has_the_same_counts(tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    assert main(["export", str(HELD), "--collapsed", str(output)]) == 0
    pages = Counter[tuple[str, ...]]()
    for line in output.read_text().splitlines():
        path, _, weight = line.rpartition(" ")
        for functions in EMPTIED:
            if ";".join(functions[::-1]) in path:
                pages[functions] += int(weight)
    assert pages == EMPTIED
