# SPDX-License-Identifier: GPL-2.0-only
"""Traces that arm64 kernels recorded, replayed on any machine.

The checks of tests/vm/guest.py record them: a process that fills and empties 128 PTE pages in eight
steps, on Linux 6.12 with pages of 4 and of 16 KiB. Beside each trace is the document of its last
snapshot as the guest printed it.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from shadow.replay import Replay, open_trace
from shadow.report.text import render
from shadow.snapshot import Snapshot, document

_HELD = Path(__file__).with_name("held")
_TRACES = pytest.mark.parametrize(("kib", "levels"), [(4, 4), (16, 3)])


def _snapshot(kib: int) -> Snapshot:
    with open_trace(str(_HELD / f"arm64-{kib}k.arrows")) as reader:
        replay = Replay(reader)
        replay.run()
    assert replay.damage is None
    (snapshot,) = replay.snapshots(slots=True)
    return snapshot


def _lost(old: Any, new: Any, at: str = "") -> list[str]:
    """Where the new document differs from the old one; it may have more fields."""
    if isinstance(old, dict) and isinstance(new, dict):
        lost = [f"{at}/{key}" for key in old.keys() - new.keys()]
        return lost + [
            p for k in old.keys() & new.keys() for p in _lost(old[k], new[k], f"{at}/{k}")
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [place for i, (a, b) in pairs for place in _lost(a, b, f"{at}/{i}")]
    return [] if old == new else [at]


@_TRACES
def test_the_replay_is_the_document_of_the_guest(kib: int, levels: int) -> None:
    live = json.loads((_HELD / f"arm64-{kib}k.json").read_text())
    snapshot = _snapshot(kib)
    assert _lost(live, document([snapshot])) == []
    kernel = snapshot.kernel
    assert (kernel.arch, kernel.page_size, kernel.levels) == ("arm64", kib << 10, levels)
    assert snapshot.now.vm_pte_kib == snapshot.now.vm_pte_predicted_kib
    assert snapshot.now.empty == 64


@_TRACES
def test_the_report_has_the_sizes_of_its_kernel(kib: int, levels: int) -> None:
    text = render(_snapshot(kib))
    assert f"arm64 with pages of {kib} KiB, {levels} levels" in text
    empty = next(line for line in text.splitlines() if line.strip().startswith("empty "))
    assert {4: "256 KiB", 16: "1.0 MiB"}[kib] in empty
