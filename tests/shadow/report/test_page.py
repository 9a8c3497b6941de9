# SPDX-License-Identifier: GPL-2.0-only
"""The page without a browser: its data, its policy, its libraries, its size."""

import base64
import hashlib
import html
import json
import re
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shadow.cells import ENTRY_BITS, Causes, Cells
from shadow.policy import POLICIES, Policy
from shadow.report.page import columns
from shadow.report.page.assets import assets
from shadow.report.page.columns import columns_of, packed
from shadow.report.page.data import PageProcess, Source
from shadow.report.page.render import live_page, report_page
from shadow.snapshot import document
from shadow.timeline import Timeline
from tests.shadow.trace.traces import END_NS, followed
from tools.page_libraries import FOLDER, altered, libraries

_SLOT = 2 << 20
_STATIC = Path(columns.__file__).parent / "static"


def _unpacked(text: str, kind: str) -> np.ndarray[Any, Any]:
    raw = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    width = np.dtype(kind).itemsize
    return np.ascontiguousarray(raw.reshape(width, -1).T).view(kind).ravel()


@pytest.mark.parametrize("kind", ["u1", "<u2", "<i4", "<f8"])
@pytest.mark.parametrize("count", [0, 1, 1000])
def test_a_packed_column_is_read_back(kind: str, count: int) -> None:
    values = np.random.default_rng(1).integers(0, 200, count).astype(kind)
    assert np.array_equal(_unpacked(packed(values), kind), values)


def _cells(entries: dict[int, int], time: int = 0) -> Cells:
    slots = np.array(sorted(entries), np.int64)
    count = len(slots)
    states = [entries[slot] | 7 << ENTRY_BITS for slot in slots.tolist()]
    causes = Causes(
        call=np.full(count, 1, np.uint8),
        pages=np.zeros(count, np.uint32),
        tid=np.full(count, 5, np.int32),
        time=np.full(count, time),
    )
    return Cells(
        slots=slots * _SLOT,
        states=np.array(states, np.uint32),
        owner=slots % 2,
        owners=["even", "odd"],
        made=causes,
        emptied=causes,
        threads={5: "worker"},
    )


def _states(data: dict[str, Any]) -> list[list[int]]:
    table = _unpacked(data["states"], "<u4").reshape(len(data["moments"]), data["slots"])
    return (table.cumsum(axis=0, dtype=np.uint32) & ((1 << ENTRY_BITS) - 1)).tolist()  # type: ignore[no-any-return]


def test_cells_of_all_moments_are_read_back() -> None:
    moments = [_cells({1: 5, 9: 512}), _cells({1: 0}), _cells({1: 7, 4: 3}, time=2_500_000_000)]
    data = columns_of(moments, start_ns=500_000_000, slot=_SLOT)
    assert _unpacked(data["slot"], "<f8").cumsum().tolist() == [1, 4, 9]
    assert _states(data) == [[5, 0, 512], [0, 0, 0], [7, 3, 0]]
    names = [data["owners"][owner] for owner in _unpacked(data["owner"], "<i4").tolist()]
    assert names == ["odd", "even", "odd"]
    assert _unpacked(data["made"]["ms"], "<f8").tolist() == [2000, 2000, -1]
    assert data["made"]["threads"] == ["worker"]


def test_moments_that_do_not_fit_are_left_out_but_never_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    moments = [_cells(dict(enumerate(rng.integers(0, 513, 500).tolist()))) for _ in range(40)]
    whole = columns_of(moments, start_ns=0, slot=_SLOT)
    assert whole["moments"] == list(range(40))
    monkeypatch.setattr(columns, "_MOST_BYTES", 8000)
    part = columns_of(moments, start_ns=0, slot=_SLOT)
    assert part["moments"][-1] == 39
    assert 1 < len(part["moments"]) < 40
    assert len(part["states"]) <= 8000
    everything = _states(whole)
    assert _states(part) == [everything[moment] for moment in part["moments"]]
    monkeypatch.setattr(columns, "_MOST_BYTES", 10)
    assert columns_of(moments, start_ns=0, slot=_SLOT)["moments"] == [39]


def test_the_states_have_the_policies_in_order() -> None:
    script = (_STATIC / "js" / "cells.js").read_text()
    listed = re.search(r"POLICIES = \[(.*)\]", script)
    assert listed
    assert [f'"{policy.label}"' for policy in POLICIES] == listed[1].split(", ")
    assert [policy.value for policy in POLICIES] == list(range(len(POLICIES)))
    cells = replace(
        _cells({1: 5}), states=np.array([5 | 1 << ENTRY_BITS + Policy.PTE_REF], np.uint32)
    )
    assert cells.entries_by_slot(Policy.PTE_REF) == {_SLOT: 5}
    assert cells.entries_by_slot(Policy.NONE) == {}


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.label)
def test_each_policy_has_a_meaning_a_line_and_a_colour(policy: Policy) -> None:
    meanings = (_STATIC / "js" / "policies.js").read_text()
    assert re.search(rf'^  {policy.label}:\s+"', meanings, re.MULTILINE)
    dashes = re.search(r"DASHES = {(.*?)};", (_STATIC / "js" / "timechart.js").read_text())
    assert dashes
    assert f" {policy.label}: [" in dashes[1]
    colours = (_STATIC / "css" / "1-colours.css").read_text()
    assert f"--policy-{policy.label.replace('_', '-')}: light-dark(" in colours


def _page() -> str:
    engine, timeline = followed(), Timeline()
    timeline.end(engine, END_NS)
    plain = document([engine.snapshot(END_NS)])
    process = PageProcess.of_timeline(timeline)
    return report_page(plain, [process], [Source("t")], version="1", made="now")


def _digests(page: str, tag: str, kind: str = "") -> set[str]:
    texts = re.findall(f"<{tag}{kind}>(.*?)</{tag}>", page, re.DOTALL)
    return {
        f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
        for text in texts
    }


@pytest.mark.parametrize("make", [_page, lambda: live_page("1")], ids=["report", "live"])
def test_the_policy_has_the_hash_of_every_script_and_style(make: Any) -> None:
    text = make()
    policy = text.split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0]
    allowed = set(re.findall(r"sha256-[A-Za-z0-9+/=]+", policy.replace("&#43;", "+")))
    there = _digests(text, "script") | _digests(text, "script", ' type="module"')
    assert allowed == there | _digests(text, "style")
    assert "unsafe" not in policy
    assert "default-src &#39;none&#39;" in policy
    assert ("connect-src" in policy) == (text == live_page("1"))


def test_a_page_names_no_other_place() -> None:
    text = _page()
    for comment in (*assets().scripts, *assets().styles):  # they name where they come from
        text = text.replace(comment, "")
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", text)
    assert not re.findall(r"https?://", text)
    assert len(_page()) < 300_000


def test_a_page_has_the_licences_of_what_it_contains() -> None:
    text = html.unescape(_page())
    for library in libraries():
        assert (FOLDER / f"{library['name']}.LICENSE").read_text() in text


def test_the_libraries_are_those_that_were_published() -> None:
    assert altered() == []
    for library in libraries():
        assert library["licence"] in ("MIT", "ISC")  # both may be part of a GPL-2.0-only program
        assert (FOLDER / f"{library['name']}.LICENSE").read_text().strip()


def test_a_carriage_return_would_change_a_hash() -> None:
    """Browsers turn it into a line feed before they compare."""
    for text in (*assets().scripts, assets().module, *assets().styles):
        assert "\r" not in text
        assert "</script" not in text.lower()
        assert "</style" not in text.lower()


def test_every_module_is_part_of_the_page_once() -> None:
    names = [path.name for path in (FOLDER.parent / "js").iterdir()]
    for name in names:
        text = (FOLDER.parent / "js" / name).read_text()
        line = text.splitlines()[1]
        assert line.startswith("// "), f"{name} does not say what it is"
        assert assets().module.count(line) == 1, f"{name} is not imported"


def test_no_command_imports_the_page_before_it_is_wanted() -> None:
    script = (
        "import sys, tracer.commands.attach, tracer.commands.census, tracer.commands.advise, "
        "tracer.commands.report, tracer.commands.daemon, tracer.daemon.pages\n"
        "assert 'jinja2' not in sys.modules, 'jinja2'\n"
        "assert 'shadow.report.page.assets' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_page_is_valid_json_inside() -> None:
    text = _page()
    parts = re.findall(r'<script type="application/json" id="\w+">(.*?)</script>', text)
    assert [set(json.loads(part)) >= keys for part, keys in zip(
        parts, ({"schema", "processes"}, {"version", "kinds"}), strict=True
    )] == [True, True]  # fmt: skip
    assert all("<" not in part for part in parts)
