# SPDX-License-Identifier: GPL-2.0-only
"""A table of many processes, one row each, as text or for Parquet."""

from datetime import UTC, datetime
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import parquet

from shadow.escape import reporter, valid
from shadow.policy import POLICIES, Policy
from shadow.report.text_table import TextTable, left, right
from shadow.snapshot import Snapshot
from shadow.units import NS

__all__ = ("as_row", "summary_table", "write_parquet")


def as_row(snapshot: Snapshot, *, trace: str, host: str, wall_ns: int) -> dict[str, Any]:
    """One process as a row; counts are PTE pages.

    Args:
        snapshot: the snapshot of the process.
        trace: the trace that has the process.
        host: the name of its host.
        wall_ns: the end of its window, since the epoch; 0: unknown.
    """
    process, now = snapshot.process, snapshot.now
    allocator = process.allocator
    kept = snapshot.policies[Policy.NONE.label].pte_pages
    return {
        "trace": trace,
        "host": host,
        "time": datetime.fromtimestamp(wall_ns / NS, UTC) if wall_ns else None,
        "pid": process.pid,
        "name": process.comm,
        "allocator": f"{allocator.name} {allocator.version or ''}".rstrip() if allocator else None,
        "policy": snapshot.kernel.policy,
        "events": sum(snapshot.window.events.values()),
        "lost": snapshot.window.lost,
        "pte_pages": now.pte_pages,
        "empty": now.empty,
        **{
            f"saved_by_{policy.label}": kept - snapshot.policies[policy.label].pte_pages
            for policy in POLICIES[1:]
        },
    }


_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("trace", "host")),
        ("time", pa.timestamp("us", "UTC")),
        ("pid", pa.int32()),
        *((name, pa.string()) for name in ("name", "allocator", "policy")),
        *((name, pa.int64()) for name in ("events", "lost", "pte_pages", "empty")),
        *((f"saved_by_{policy.label}", pa.int64()) for policy in POLICIES[1:]),
    ]
)
_FIGURES = ("pte_pages", "empty", *(f"saved_by_{policy.label}" for policy in POLICIES[1:]))


_TABLE = TextTable(
    left("host", 14),
    left("time (UTC)", 19),
    right("pid", 8),
    left("name", 16),
    left("allocator", 16),
    right("PTE pages", 10),
    right("empty", 9),
    *(right(f"{policy.label} saves", len(policy.label) + 7) for policy in POLICIES[1:]),
    right("lost", 6),
)


@reporter
def summary_table(rows: list[dict[str, Any]]) -> str:
    """Rows of `as_row` as text."""
    return "\n".join(_TABLE.lines(map(_cells, rows)))


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["host"] or "-",
        f"{row['time']:%Y-%m-%d %H:%M:%S}" if row["time"] else "-",
        str(row["pid"]),
        row["name"],
        row["allocator"] or "-",
        *(f"{row[name]:,}" for name in (*_FIGURES, "lost")),
    ]


def write_parquet(rows: list[dict[str, Any]], file: BinaryIO) -> None:
    """Write rows of `as_row` as Parquet.

    Raises:
        OSError: the file cannot be written.
    """
    parquet.write_table(pa.Table.from_pylist(valid(rows), schema=_SCHEMA), file)
