# SPDX-License-Identifier: GPL-2.0-only
"""The calls in progress as the BPF programs keep them: whose they are, what they may change."""

import struct

from tracer.probes.progress import Progress

_CALL = struct.Struct("<QQII")
_US, _THEM = 10, 11


def _ranges(progress: Progress) -> list[tuple[int, int]]:
    starts, ends = progress.ranges
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def test_only_calls_that_affect_the_process_count() -> None:
    calls = [
        _CALL.pack(0x3000, 0x1000, _US, 0),
        _CALL.pack(0x1000, 0x1000, _US, 0),
        _CALL.pack(0x9000, 0x1000, _THEM, 0),
    ]
    progress = Progress.of(calls, _US)
    assert _ranges(progress) == [(0x1000, 0x2000), (0x3000, 0x4000)]
    assert progress.any
    assert not progress.cuts


def test_a_cut_file_affects_every_process() -> None:
    progress = Progress.of([_CALL.pack(0, 1 << 62, 0, 0)], _US)
    assert progress.cuts
    assert progress.any
    assert _ranges(progress) == []


def test_nothing_in_progress() -> None:
    assert not Progress.of([_CALL.pack(0, 1, _THEM, 0)], _US).any


def test_a_range_that_wraps_around_ends_at_the_limit() -> None:
    top = (1 << 64) - 1
    calls = [_CALL.pack(top, top, _US, 0), _CALL.pack(0x1000, top, _US, 0)]
    assert _ranges(Progress.of(calls, _US)) == [(0x1000, 1 << 62)]
