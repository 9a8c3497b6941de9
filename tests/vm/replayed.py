# SPDX-License-Identifier: GPL-2.0-only
"""Replays of held traces, to compare those of two architectures to the byte."""

import hashlib
import json
from pathlib import Path

from shadow.replay import Replay, open_trace
from shadow.snapshot import document

__all__ = ("HELD", "digest_of", "replayed")

_FOLDER = Path(__file__).parents[1] / "shadow"
_TRACES = ("owners/redis.arrows", "owners/postgres.arrows", "held/arm64-4k.arrows")
HELD = tuple(_FOLDER / name for name in _TRACES)
"""Traces of x86-64 and of arm64, all with pages of 4 KiB: every guest has machine code for them."""


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
