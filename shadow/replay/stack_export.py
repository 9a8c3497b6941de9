# SPDX-License-Identifier: GPL-2.0-only
"""Export of stacks: collapsed lines for flame graphs, speedscope's JSON, and pprof's profile.

Each weighs the PTE pages that are empty at the end of the trace, by the stack of the event that
emptied or made them. A stack is shown as process, thread, frames and event, outermost first.
"""

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, TextIO

from shadow.errors import DamagedTraceError, UsageError
from shadow.escape import valid
from shadow.memory_limit import MAX_MEMORY
from shadow.replay.pprof import Pprof
from shadow.replay.replay import Replay
from shadow.stack_weights import INCOMPLETE, NOT_SAMPLED, Event, WeighedStack, Weight, weigh
from shadow.stacks import Frame
from shadow.trace import TraceReader

__all__ = (
    "StackWeights",
    "replay_stacks",
    "to_collapsed",
    "to_pprof",
    "to_speedscope",
)

_PER_SECOND = 1000
_SPEEDSCOPE = "https://www.speedscope.app/file-format-schema.json"


@dataclass(frozen=True)
class StackWeights:
    """The stacks of a trace.

    Attributes:
        weighed: stacks with their weights.
        damage: why the replay did not reach the end of the trace.
    """

    weighed: list[WeighedStack]
    damage: DamagedTraceError | None


def replay_stacks(reader: TraceReader, event: Event, max_memory: int = MAX_MEMORY) -> StackWeights:
    """Replay a trace and weigh its stacks.

    Raises:
        UsageError: the trace has no stacks.
    """
    replay = Replay(reader, max_memory=max_memory)
    replay.run()
    snapshots = replay.snapshots()
    if all(snapshot.stacks is None for snapshot in snapshots):
        if replay.damage:
            raise replay.damage
        raise UsageError("The trace has no stacks; record it with --stacks.")
    weighed = [each for snapshot in snapshots for each in weigh(snapshot, event)]
    return StackWeights(weighed, replay.damage)


def _sums(weights: StackWeights, by: Weight) -> dict[tuple[str, ...], float]:
    sums: dict[tuple[str, ...], float] = {}
    for each in weights.weighed:
        names = tuple(each.names())
        sums[names] = sums.get(names, 0) + each.weight(by)
    return {names: weight for names, weight in sums.items() if weight}


def to_collapsed(weights: StackWeights, by: Weight, file: TextIO) -> None:
    """Write a line for each stack, as flamegraph.pl reads it: names and a whole number.

    Page-seconds are in thousandths.
    """
    scale = 1 if by is Weight.PAGES else _PER_SECOND
    for names, weight in _sums(weights, by).items():
        text = ";".join(name.replace(";", ":") for name in valid(list(names)))
        file.write(f"{text} {round(weight * scale)}\n")


def to_speedscope(weights: StackWeights, by: Weight, name: str, file: TextIO) -> None:
    """Write a profile for speedscope.app.

    Args:
        weights: the stacks.
        by: their weight.
        name: the name of the profile.
        file: the output, JSON.
    """
    sums = _sums(weights, by)
    numbers = _numbered(names for stack in sums for names in stack)
    profile = {
        "type": "sampled",
        "name": name,
        "unit": "none",
        "startValue": 0,
        "endValue": sum(sums.values()),
        "samples": [[numbers[each] for each in stack] for stack in sums],
        "weights": list(sums.values()),
    }
    document = {
        "$schema": _SPEEDSCOPE,
        "shared": {"frames": [{"name": each} for each in numbers]},
        "profiles": [profile],
        "name": name,
        "exporter": "ptescope",
    }
    json.dump(valid(document), file)
    file.write("\n")


def _numbered(names: Iterator[str]) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for name in names:
        numbers.setdefault(name, len(numbers))
    return numbers


def to_pprof(weights: StackWeights, by: Weight, file: BinaryIO) -> None:
    """Write a profile for pprof with both weights; `by` is the one that pprof shows first."""
    units: tuple[tuple[str, str, Callable[[WeighedStack], int]], ...] = (
        ("pte_pages", "count", lambda each: each.pages),
        ("page_milliseconds", "count", lambda each: round(each.seconds * _PER_SECOND)),
    )
    profile = Pprof([(name, unit) for name, unit, _ in units])
    profile.default = units[0 if by is Weight.PAGES else 1][0]
    for each in weights.weighed:
        frames = [*([] if each.complete else [_plain(INCOMPLETE)]), *(each.frames or [])]
        if each.frames is None:
            frames = [_plain(NOT_SAMPLED)]
        frames = [*frames, _plain(f"[{each.call}]")]
        labels = {"process": each.process, "thread": each.thread or "", "call": each.call}
        profile.add(frames[::-1], [value(each) for _, _, value in units], labels)
    with gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as packed:
        packed.write(profile.encoded())


def _plain(name: str) -> Frame:
    return Frame(name, None, 0)
