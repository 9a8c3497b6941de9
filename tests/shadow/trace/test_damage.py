# SPDX-License-Identifier: GPL-2.0-only
"""The reader returns only the intact part of a damaged trace, and names the damage."""

import io
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.errors import DamagedTraceError, PtescopeError
from shadow.replay import Question, replay_one
from shadow.trace import TraceReader
from shadow.trace.encode import encode
from tests.shadow.trace.traces import write_trace

_Read = list[tuple[int, list[pa.RecordBatch]]]


@cache
def _whole() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "whole.arrows"
        write_trace(path, pids=(7, 8))
        return path.read_bytes()


def _read(data: bytes) -> tuple[_Read, PtescopeError | None]:
    """The readable records, and the message about the rest."""
    found: _Read = []
    try:
        with TraceReader(io.BytesIO(data), "it") as reader:
            for entry in reader:
                found.append((entry.process, list(encode(entry.record, 7))))
    except PtescopeError as error:
        return found, error
    return found, None


@cache
def _original() -> tuple[_Read, list[int]]:
    """The records, and the end of each in the file."""
    with TraceReader(io.BytesIO(_whole()), "it") as reader:
        ends = [reader.position for _ in reader]
    return _read(_whole())[0], ends


def _is_told(data: bytes, damaged_at: int) -> None:
    """The reader returns all records before the damage and none after it, and names the place."""
    found, error = _read(data)
    original, ends = _original()
    assert isinstance(error, DamagedTraceError)
    assert error.status == 5
    assert found == original[: sum(end <= damaged_at for end in ends)]
    if found:
        assert f"of {len(data):,} (batch " in str(error)


def test_a_whole_trace_has_no_damage() -> None:
    found, error = _read(_whole())
    assert error is None
    assert len(found) == 24


@given(at=st.integers(0, len(_whole()) - 1), change=st.integers(1, 255))
def test_a_changed_byte_anywhere_is_found(at: int, change: int) -> None:
    data = bytearray(_whole())
    data[at] ^= change
    _is_told(bytes(data), at)


@given(length=st.integers(0, len(_whole()) - 1))
def test_a_trace_cut_short_anywhere_is_found(length: int) -> None:
    _is_told(_whole()[:length], length)


@given(
    begin=st.integers(0, len(_whole()) - 1),
    length=st.integers(1, 5000),
    put=st.binary(max_size=200),
)
def test_a_piece_that_was_replaced_is_found(begin: int, length: int, put: bytes) -> None:
    whole = _whole()
    data = whole[:begin] + put + whole[begin + length :]
    if data != whole:
        found, error = _read(data)
        original, _ = _original()
        assert error is not None
        assert found == original[: len(found)]


def test_every_byte_of_the_frame_counts() -> None:
    """Every byte of the schema message and of the end, with one bit flipped in each."""
    whole = _whole()
    for at in [*range(700), *range(len(whole) - 700, len(whole))]:
        data = bytearray(whole)
        data[at] ^= 1
        _is_told(bytes(data), at)


def test_a_batch_that_is_missing_is_found() -> None:
    _, ends = _original()
    whole = _whole()
    found, error = _read(whole[: ends[3]] + whole[ends[4] :])
    assert len(found) == 4
    assert "batch" in str(error)
    assert "is missing" in str(error)


def test_bytes_after_the_trailer_are_damage() -> None:
    found, error = _read(_whole() + b"more")
    assert len(found) == 24
    assert "its end mark was altered" in str(error)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"not a trace at all, but a text" * 99])
def test_a_file_that_is_no_trace_is_reported_as_such(data: bytes) -> None:
    _, error = _read(data)
    assert "is not a ptescope trace" in str(error)
    assert error is not None
    assert error.status == 5


def test_what_precedes_the_damage_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "cut.arrows"
    _, ends = _original()
    path.write_bytes(_whole()[: ends[4] + 100])
    outcome = replay_one(str(path), Question())
    assert outcome.status == 5
    assert outcome.problem is not None
    assert f"damaged at byte {ends[4]:,} of {ends[4] + 100:,} (batch" in outcome.problem
    (process,) = outcome.followed
    assert process.snapshot.window.events["fault"] == 23
    assert process.snapshot.window.end_ns > process.snapshot.window.start_ns
