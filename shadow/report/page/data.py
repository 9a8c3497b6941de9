# SPDX-License-Identifier: GPL-2.0-only
"""What a page needs beside the JSON document: the course of time, the cells, and the sources."""

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shadow.cells import Cells
from shadow.escape import valid
from shadow.policy import POLICIES
from shadow.report.page.columns import columns_of, packed
from shadow.report.page.flame import flame_tree
from shadow.snapshot import Snapshot
from shadow.units import NS

if TYPE_CHECKING:  # a census needs no shadow
    from shadow.timeline import Point, Timeline

__all__ = ("PageProcess", "Source", "process_data")

_ROWS = 60
"""Mappings of an earlier moment; the document has all mappings of the end."""


@dataclass(frozen=True)
class Source:
    """Where processes come from.

    Attributes:
        name: a trace, or what was done.
        problem: why it is incomplete; None: it is complete.
    """

    name: str
    problem: str | None = None


@dataclass(frozen=True)
class PageProcess:
    """A process of a page; the document has its snapshot.

    Attributes:
        source: the index of its source.
        snapshots: the snapshot of each moment; the last one is that of the document.
        cells: the cells of the same moments; empty: unknown.
        points: the counts over time.
        host: the name of its host; "": unknown.
        wall_ns: the start of its window, since the epoch; 0: unknown.
        redacted: whether names were removed and addresses moved.
        stacks: a tree of {name, value, children}; None: there are no stacks.
    """

    source: int
    snapshots: Sequence[Snapshot]
    cells: Sequence[Cells]
    points: "Sequence[Point]" = ()
    host: str = ""
    wall_ns: int = 0
    redacted: bool = False
    stacks: dict[str, Any] | None = None

    @classmethod
    def of_timeline(cls, timeline: "Timeline", source: int = 0) -> "PageProcess":
        """A process whose course of time was taken to its end."""
        facts = timeline.facts
        assert facts, "the timeline has an end"
        return cls(
            source,
            snapshots=[moment.snapshot for moment in timeline.moments],
            cells=[moment.cells for moment in timeline.moments],
            points=timeline.points,
            host=facts.host,
            wall_ns=facts.wall_ns,
            redacted=facts.redacted,
            stacks=flame_tree(timeline.moments[-1].snapshot),
        )


def process_data(process: PageProcess) -> dict[str, Any]:
    """The data of a process, as JSON."""
    last = process.snapshots[-1]
    start_ns, geometry = last.window.start_ns, last.kernel.geometry
    plain: dict[str, Any] = {
        "source": process.source,
        "host": process.host,
        "wall_ms": process.wall_ns / 1e6 if process.wall_ns else None,
        "redacted": process.redacted,
        "points": _points(process.points, start_ns) if process.points else None,
        "moments": _moments(process.snapshots, start_ns),
        "cells": columns_of(process.cells, start_ns, geometry.slot) if process.cells else None,
        "stacks": process.stacks,
    }
    return valid(plain)


def _points(points: "Sequence[Point]", start_ns: int) -> dict[str, Any]:
    times = np.array([point.time_ns - start_ns for point in points], np.float64) / NS
    columns: dict[str, Any] = {"seconds": packed(times.astype("<f8"))}
    for name in ("pte_pages", "empty"):
        table = np.array([getattr(point, name) for point in points], "<i4")
        columns[name] = {policy.label: packed(table[:, policy]) for policy in POLICIES}
    return columns


def _moments(snapshots: Sequence[Snapshot], start_ns: int) -> str:
    """What the tables of each moment show, compressed JSON."""
    moments = []
    for snapshot in snapshots:
        plain = snapshot.as_json()
        kept = {name: plain.get(name) for name in ("now", "policies", "origins")}
        kept["mappings"] = _few(plain.get("mappings"))
        kept["seconds"] = (snapshot.window.end_ns - start_ns) / NS
        kept["events"] = sum(snapshot.window.events.values())
        moments.append(kept)
    text = json.dumps(moments, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 6)).decode()


def _few(uses: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """The largest rows without what identifies files."""
    if uses is None:
        return None
    left_out = ("device", "inode", "ranges")
    return [
        {name: value for name, value in use.items() if name not in left_out} for use in uses[:_ROWS]
    ]
