# SPDX-License-Identifier: GPL-2.0-only
"""Replays of held traces, to compare those of two architectures to the byte."""

import hashlib
import json
from pathlib import Path

from shadow.replay import Replay, open_trace
from shadow.snapshot import document

__all__ = ("HELD", "digest_of", "replayed")

_FOLDER = Path(__file__).parents[1] / "shadow"
_TRACES = {
    "owners/redis.arrows": 1 << 12,
    "owners/postgres.arrows": 1 << 12,
    "held/arm64-4k.arrows": 1 << 12,
    "held/arm64-16k.arrows": 1 << 14,
}
HELD = {_FOLDER / name: page for name, page in _TRACES.items()}
"""Traces of x86-64 and of arm64, and the size of their pages."""


def replayed(path: Path) -> str:
    """The document of a trace, with all slots."""
    with open_trace(str(path)) as reader:
        replay = Replay(reader)
        replay.run()
    assert replay.damage is None, replay.damage
    return json.dumps(document(replay.snapshots(slots=True)))


def digest_of(path: Path) -> str:
    """A digest of the document of a trace."""
    return hashlib.sha256(replayed(path).encode()).hexdigest()
