# SPDX-License-Identifier: GPL-2.0-only
"""The loop in C that the benchmark compares with still does the work of the table's loop."""

from copy import deepcopy
from pathlib import Path

import pytest

from shadow.events import Kind
from shadow.table.table import Table
from shadow.uapi import MADV_DONTNEED_LOCKED
from tools.bench.replay import CLoop, assert_equal
from tools.bench.streams import Stream, synthetic

_EVENTS = 20_000


@pytest.fixture(scope="module")
def c_loop(tmp_path_factory: pytest.TempPathFactory) -> CLoop:
    folder: Path = tmp_path_factory.mktemp("loop")
    return CLoop(str(folder))


def _assert_same(c_loop: CLoop, stream: Stream) -> None:
    table, other = deepcopy(stream.start), deepcopy(stream.start)
    Table.feed(table, stream.events)
    c_loop.feed(other, stream.events)
    assert_equal(table, other)


@pytest.mark.parametrize("stream", list(synthetic(_EVENTS)), ids=lambda stream: stream.name)
def test_the_loop_in_c_ends_with_the_same_contents(c_loop: CLoop, stream: Stream) -> None:
    _assert_same(c_loop, stream)


def test_each_kind_of_zap(c_loop: CLoop) -> None:
    """DONTNEED, DONTNEED_LOCKED and FREE, of parts of slots and of whole ones."""
    stream = list(synthetic(_EVENTS))[-1]
    events = stream.events.copy()
    zaps = (events["kind"] == Kind.DONTNEED).nonzero()[0]
    events["kind"][zaps[::3]] = Kind.FREE
    events["aux"][zaps[1::3]] = MADV_DONTNEED_LOCKED
    events["length"][zaps[2::9]] = 4 << 20
    _assert_same(c_loop, Stream(stream.name, stream.start, events))
