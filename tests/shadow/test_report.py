# SPDX-License-Identifier: GPL-2.0-only
"""The text report and the JSON document show the numbers of the snapshot."""

import json
import re
from dataclasses import replace

import pytest

from shadow.events import Kind
from shadow.policy import Policy
from shadow.records import Facts
from shadow.report.text import interval_header, interval_row, live_line, render
from shadow.snapshot import Allocator, Audit, Kernel, Process, Snapshot, document
from shadow.table.state import HugePages
from shadow.table.table import Table
from shadow.take_snapshot import take_snapshot
from tests.shadow.build import BASE, SLOT, EventScript


def _snapshot(*, lost: int = 0, slots: bool = False, seed: str = "counted") -> Snapshot:
    history = EventScript().map(BASE, 4 * SLOT).touch(BASE, 3 * SLOT, SLOT // 8)
    history.dontneed(BASE, SLOT // 2).dontneed(BASE + SLOT // 2, SLOT // 2)
    history.dontneed(BASE + SLOT, SLOT)
    if lost:
        history.add(Kind.LOSS, 0, lost)
    table = Table(running=Policy.PT_RECLAIM)
    table.feed(history.batch())
    facts = Facts(
        huge=HugePages(),
        process=Process(7, "server", 1, "/bin/server", Allocator("jemalloc", "5.3.0", "shared: x")),
        kernel=Kernel("6.18.0", "pt_reclaim", 4, 4096, seed),
        vm_pte_kib=20,
        unplaced=1,
        audit=Audit(runs=1, refs_diff=3, method="counted"),
    )
    return take_snapshot(table, facts, 2_000_000_000, slots=slots)


def test_the_numbers_of_the_snapshot() -> None:
    now = _snapshot().now
    assert (now.pte_pages, now.empty, now.unplaced) == (3, 2, 1)
    assert now.vm_pte_predicted_kib == 4 * (3 + 1 + 1)
    assert sum(now.occupancy) == now.pte_pages
    assert now.occupancy[0] == now.empty
    policies = _snapshot().policies
    assert [policies[p.label].pte_pages for p in Policy] == [3, 2, 1, 1]
    assert [policies[p.label].freed for p in Policy] == [0, 1, 2, 2]


def test_the_text_has_the_numbers_of_the_snapshot() -> None:
    text = render(_snapshot())
    assert "PTE pages              3" in text
    assert "66.7 % of all" in text
    assert "jemalloc 5.3.0" in text
    assert "entries wrong 3" in text
    assert "LOST" not in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("policy", Policy, ids=lambda policy: policy.label)
def test_the_text_has_a_row_for_each_policy(policy: Policy) -> None:
    pattern = re.compile(rf"^ [ *]{policy.label} .*[a-z] +([0-9]+) +([0-9]+) ", re.MULTILINE)
    (row,) = pattern.findall(render(_snapshot()))
    outcome = _snapshot().policies[policy.label]
    assert row == (str(outcome.pte_pages), str(outcome.empty))


def test_loss_is_shown() -> None:
    assert "LOST          17 events" in render(_snapshot(lost=17))


def test_an_audit_says_how_much_it_compared() -> None:
    clean = Audit(runs=2, method="census", compared=19, not_compared=1, vmas_runs=2)
    text = render(replace(_snapshot(), audit=clean))
    assert "2 times against the page tables, 19 of 20 PTE pages in the last check" in text
    assert "NOT CHECKED" not in text
    assert "VMAs 0" in text


def test_an_audit_that_compared_too_little_is_not_called_clean() -> None:
    little = Audit(runs=1, method="census", compared=18, not_compared=2, incomplete_runs=1)
    text = render(replace(_snapshot(), audit=little))
    assert "NOT CHECKED   2 PTE pages (10.0 %)" in text
    assert "VMAs not compared" in text


def test_readings_of_parts_are_no_audit() -> None:
    parts = Audit(rereads=3, repaired=4, refs_diff=5, method="census")
    text = render(replace(_snapshot(), audit=parts))
    assert "never in full; in part 3 times" in text
    assert "entries wrong 5" in text
    assert "4 PTE pages corrected" in text


def test_inferred_frees_are_reported() -> None:
    snapshot = _snapshot()
    policies = dict(snapshot.policies)
    policies["pte_ref"] = replace(policies["pte_ref"], inferred=2)
    text = render(replace(snapshot, policies=policies))
    assert "2 freed PTE pages were inferred from a reading, not from events" in text
    assert "inferred" not in render(snapshot)


def test_an_unseeded_shadow_says_so() -> None:
    assert "followed events only" in render(_snapshot(seed="none"))


def test_slots_are_listed_on_request_only() -> None:
    assert f"{BASE:#014x}" in render(_snapshot(slots=True))
    assert "empty slots" not in render(_snapshot())


def test_rows_and_their_heading_line_up() -> None:
    assert len(interval_row(_snapshot())) == len(interval_header())


def test_the_live_line() -> None:
    line = live_line(elapsed=1.5, events=1000, pte_pages=4, empty=1, lost=0)
    words = " ".join(line.split())
    assert words == "1.5 s 1,000 events 4 PTE pages 1 empty (25.0 %) 0 lost"


def test_the_document_has_schema_1() -> None:
    """The contract: these names, at these places."""
    plain = json.loads(json.dumps(document([_snapshot(slots=True)])))
    assert plain["schema"] == 1
    (process,) = plain["processes"]
    wanted = {
        "process": {"pid", "comm", "start_time", "exe", "allocator"},
        "kernel": {"release", "policy", "levels", "page_size", "seed"},
        "window": {"start_ns", "end_ns", "events", "lost"},
        "now": {
            "pte_pages",
            "empty",
            "lazyfree_only",
            "refs",
            "pmd_pages",
            "pud_pages",
            "thp_deposits",
            "vm_pte_kib",
            "occupancy",
        },
        "audit": {
            "runs",
            "pte_pages_diff",
            "empty_missing",
            "empty_extra",
            "refs_diff",
            "repaired",
            "rereads",
            "compared",
            "not_compared",
            "incomplete_runs",
            "vmas_runs",
        },
    }
    for part, names in wanted.items():
        assert names <= process[part].keys()
    assert process["policies"].keys() == {policy.label for policy in Policy}
    outcome = {"pte_pages", "empty", "freed", "inferred", "reallocated", "attempts"}
    for policy in process["policies"].values():
        assert policy.keys() == outcome | {"mode_switches", "peak", "saved_page_seconds", "mean"}
    assert process["process"]["allocator"].keys() >= {"name", "version", "linked", "settings"}
    assert process["empty_slots"] == [BASE]
