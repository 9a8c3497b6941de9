# SPDX-License-Identifier: GPL-2.0-only
"""The tree of the flame graph, compared with the collapsed lines of the same trace."""

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shadow.replay import Replay, open_trace
from shadow.replay.stack_export import replay_stacks, to_collapsed
from shadow.report.page.flame import flame_tree
from shadow.stack_weights import Event, Weight
from tests.shadow.trace.traces import followed

_HELD = str(Path(__file__).parents[1] / "held" / "stacks.arrows")


def _leaves(node: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, int]]:
    path = (*above, node["name"])
    inside = sum(child["value"] for child in node["children"])
    assert inside <= node["value"]
    if node["value"] > inside:
        yield ";".join(path), node["value"] - inside
    for child in node["children"]:
        yield from _leaves(child, path)


def test_the_tree_has_the_stacks_of_the_collapsed_lines() -> None:
    with open_trace(_HELD) as reader:
        replay = Replay(reader)
        replay.run()
        (snapshot,) = replay.snapshots()
    tree = flame_tree(snapshot)
    assert tree
    assert tree["value"] == snapshot.now.empty
    with open_trace(_HELD) as reader:
        text = io.StringIO()
        to_collapsed(replay_stacks(reader, Event.EMPTIED), Weight.PAGES, text)
    lines = [line.rsplit(" ", 1) for line in text.getvalue().splitlines()]
    assert Counter(dict(_leaves(tree))) == Counter({names: int(pages) for names, pages in lines})


def test_a_process_without_stacks_has_no_tree() -> None:
    assert flame_tree(followed().snapshot(9_000_000)) is None
