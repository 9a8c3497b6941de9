# SPDX-License-Identifier: GPL-2.0-only
"""Stacks in a trace: JSON for new frames and stacks, and a row for each sample."""

import json
from dataclasses import asdict, dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from shadow.escape import valid
from shadow.records import Stacks
from shadow.stacks import (
    LONGEST_NAME,
    MOST_DEPTH,
    MOST_FRAMES,
    MOST_STACKS,
    NO_STACK,
    STACK_SAMPLE,
    Frame,
    Language,
    Stack,
    StackTotals,
)
from shadow.trace.facts import MOST

__all__ = ("StackText", "decode_stacks", "encode_stacks")

_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class StackText:
    """The part of a record that is JSON; see `Stacks`."""

    first_frame: int
    first_stack: int
    frames: list[Frame]
    stacks: list[Stack]
    totals: StackTotals


_decode = msgspec.json.Decoder(StackText).decode


def encode_stacks(record: Stacks) -> bytes:
    """The JSON of a record."""
    text = StackText(
        record.first_frame, record.first_stack, record.frames, record.stacks, record.totals
    )
    return json.dumps(valid(asdict(text)), separators=(",", ":")).encode()


def _is_frame(frame: Frame) -> bool:
    names = (frame.function, frame.module)
    return (
        all(name is None or len(name) <= LONGEST_NAME for name in names)
        and 0 <= frame.offset < 1 << 64
        and (frame.language is None or frame.language in set(Language))
    )


def decode_stacks(
    time: int,
    text: bytes,
    times: npt.NDArray[np.int64],
    tids: npt.NDArray[np.int64],
    stacks: npt.NDArray[np.int64],
) -> Stacks:
    """The record of a JSON text and columns of samples.

    Raises:
        ValueError: no recorder wrote them.
    """
    if len(text) > _MOST_BYTES:
        raise ValueError(f"stacks of {len(text):,} bytes")
    found = _decode(text)
    frames, known = found.first_frame + len(found.frames), found.first_stack + len(found.stacks)
    numbers = [value for value in asdict(found.totals).values() if isinstance(value, int)]
    problems = (
        (found.first_frame < 0 or frames > MOST_FRAMES, f"{frames:,} distinct frames"),
        (found.first_stack < 0 or known > MOST_STACKS, f"{known:,} distinct stacks"),
        (not all(map(_is_frame, found.frames)), "an impossible frame"),
        (any(len(stack.frames) > MOST_DEPTH for stack in found.stacks), "an endless stack"),
        (
            any(not 0 <= frame < frames for stack in found.stacks for frame in stack.frames),
            "a stack of unknown frames",
        ),
        (not all(0 <= number < MOST for number in numbers), "a number out of range"),
        (len(found.totals.problem or "") > LONGEST_NAME, "an endless problem"),
        (((stacks >= known) & (stacks != NO_STACK)).any(), "a sample of an unknown stack"),
        (((times < 0) | (times >= MOST)).any(), "a time out of range"),
    )
    for wrong, problem in problems:
        if wrong:
            raise ValueError(problem)
    samples = np.empty(len(times), STACK_SAMPLE)
    samples["time"], samples["tid"], samples["stack"] = times, tids, stacks
    return Stacks(
        time,
        found.first_frame,
        found.first_stack,
        found.frames,
        found.stacks,
        samples,
        found.totals,
    )
