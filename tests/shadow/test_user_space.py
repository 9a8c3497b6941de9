# SPDX-License-Identifier: GPL-2.0-only
"""Impossible arguments of calls are clamped to user space before they become events."""

import numpy as np
import pytest

from shadow.events import EVENT, Kind
from shadow.geometry import X86_64
from shadow.user_space import clipped, outside
from tests.shadow.build import BASE, EventScript
from tests.x86_64 import PAGE, SLOT

_LIMIT = X86_64.user_bytes
_TOP = (1 << 64) - PAGE


def _clipped(*rows: tuple[Kind, int, int]) -> list[tuple[int, int, int]]:
    batch = np.array([(i, a, n, 7, 7, k, 0, 0) for i, (k, a, n) in enumerate(rows)], EVENT)
    found = clipped(batch, _LIMIT)
    assert not outside(found, _LIMIT).any()
    return [(int(e["kind"]), int(e["address"]), int(e["length"])) for e in found]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((Kind.FAULT, BASE, 0), (BASE, 0)),
        ((Kind.DONTNEED, BASE, SLOT), (BASE, SLOT)),
        ((Kind.DONTNEED, BASE, 1 << 63), (BASE, _LIMIT - BASE)),
        ((Kind.UNMAP_BEGIN, BASE, (1 << 64) - PAGE), (BASE, _LIMIT - BASE)),
        ((Kind.DONTNEED, _TOP, PAGE), None),
        ((Kind.UNMAP_BEGIN, _TOP, 1 << 63), None),
        ((Kind.UNMAP, _TOP, 0), None),
        ((Kind.LOCK, _LIMIT - PAGE, SLOT), (_LIMIT - PAGE, PAGE)),
        ((Kind.LOCK, 0, 0), (0, 0)),
        ((Kind.LOCK, BASE, 0), None),
        ((Kind.UNLOCK, BASE, 0), None),
        ((Kind.FORK, 4711, 0), (4711, 0)),
        ((Kind.LOSS, 0, 1000), (0, 1000)),
    ],
)
def test_user_space_addresses_are_kept(
    given: tuple[Kind, int, int], kept: tuple[int, int] | None
) -> None:
    found = _clipped((Kind.FAULT, BASE, 0), given)[1:]
    assert [event[1:] for event in found] == ([kept] if kept else [])


def test_a_batch_that_is_sound_is_not_copied() -> None:
    batch = EventScript().map(BASE, SLOT).touch(BASE, SLOT).dontneed(BASE, SLOT).batch()
    assert clipped(batch, _LIMIT) is batch
