# SPDX-License-Identifier: GPL-2.0-only
"""Traces replayed: one, or as many as there are, wherever they lie."""

from shadow.replay.batch import (
    Followed,
    Question,
    TraceResult,
    replay_all,
    replay_on_cluster,
    replay_one,
    result_of,
)
from shadow.replay.export import to_parquet, to_perfetto
from shadow.replay.replay import Replay
from shadow.replay.source import find_traces, open_trace

__all__ = (
    "Followed",
    "TraceResult",
    "Question",
    "Replay",
    "find_traces",
    "open_trace",
    "result_of",
    "replay_all",
    "replay_on_cluster",
    "replay_one",
    "to_parquet",
    "to_perfetto",
)
