# SPDX-License-Identifier: GPL-2.0-only
"""Traces replayed: one, or as many as there are, wherever they lie."""

from shadow.replay.export import to_parquet, to_perfetto
from shadow.replay.many import (
    Followed,
    Outcome,
    Question,
    outcome_of,
    replay_all,
    replay_on_cluster,
    replay_one,
)
from shadow.replay.one import Replay
from shadow.replay.source import find_traces, open_trace

__all__ = (
    "Followed",
    "Outcome",
    "Question",
    "Replay",
    "find_traces",
    "open_trace",
    "outcome_of",
    "replay_all",
    "replay_on_cluster",
    "replay_one",
    "to_parquet",
    "to_perfetto",
)
