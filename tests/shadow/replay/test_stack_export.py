# SPDX-License-Identifier: GPL-2.0-only
"""Stacks as collapsed lines, speedscope and pprof."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shadow.events import Kind
from shadow.records import Events, Record
from shadow.table.state import HugePages
from shadow.trace import TraceFile
from tests.shadow.build import BASE, SLOT, EventScript
from tests.shadow.stacks import stacks
from tests.shadow.trace.traces import facts
from tracer.cli import main

_PROCESS = "server (7)"
_END = ["[MADV_DONTNEED]"]
_END_NS = 2_000_000_000


def _write(path: Path, *records: Record, end: bool = True) -> None:
    file = TraceFile(path)
    for record in records:
        file.write(1, 7, record)
    if end:
        file.end()
    file.close()


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Three PTE pages emptied with two known stacks, one without."""
    script = EventScript().map(BASE, 8 * SLOT).touch(BASE, 4 * SLOT, SLOT)
    for slot in range(4):
        script.add(Kind.DONTNEED, BASE + slot * SLOT, SLOT // 2, 4)
    path = tmp_path / "t.arrows"
    begin = replace(facts(), huge=HugePages(0, 0, 0))
    samples = stacks([(6000, 1, 0), (7000, 1, 0), (8000, 1, 2), (2000, 1, 1)])
    _write(path, begin, Events(script.batch()), samples, replace(begin, end_ns=_END_NS))
    return path


def _export(trace: Path, option: str, *more: str) -> bytes:
    output = trace.with_name(f"out{option}")
    assert main(["export", str(trace), option, str(output), "--force", *more]) == 0
    return output.read_bytes()


def _collapsed(trace: Path, *more: str) -> dict[tuple[str, ...], int]:
    found = {}
    for line in _export(trace, "--collapsed", *more).decode().splitlines():
        path, _, weight = line.rpartition(" ")
        found[tuple(path.split(";"))] = int(weight)
    return found


def test_collapsed_lines_lead_from_the_process_to_the_call(trace: Path) -> None:
    found = _collapsed(trace)
    assert sum(found.values()) == 4
    known = ("main", "purge", "libjemalloc.so.2+0x87d3f", "libjemalloc.so.2+0x94ee7", "madvise")
    assert found[_PROCESS, "thread 1", *known, *_END] == 2
    assert found[_PROCESS, "thread 1", "[not sampled]", *_END] == 1
    ((hostile, count),) = ((path, n) for path, n in found.items() if "[incomplete]" in path)
    assert count == 1
    assert len(hostile) == 2 + 1 + 3 + 1  # the name's semicolon separates nothing
    assert all(name.isprintable() for path in found for name in path)


def test_the_stacks_of_the_makers(trace: Path) -> None:
    found = _collapsed(trace, "--stack", "made")
    assert found[_PROCESS, "thread 1", "main", "purge", "[fault]"] == 1
    assert found[_PROCESS, "thread 1", "[not sampled]", "[fault]"] == 3


def test_page_seconds_weigh_by_time(trace: Path) -> None:
    found = _collapsed(trace, "--weight", "page-seconds")
    assert set(found) == set(_collapsed(trace))
    assert found[_PROCESS, "thread 1", "[not sampled]", *_END] == _END_NS // 1_000_000
    assert sum(found.values()) == pytest.approx(4 * _END_NS / 1e6, abs=4)


def test_speedscope_has_the_same_stacks(trace: Path) -> None:
    document = json.loads(_export(trace, "--speedscope"))
    names = [frame["name"] for frame in document["shared"]["frames"]]
    (profile,) = document["profiles"]
    found = {
        tuple(names[each].replace(";", ":") for each in sample): weight
        for sample, weight in zip(profile["samples"], profile["weights"], strict=True)
    }
    assert found == _collapsed(trace)
    assert profile["endValue"] == sum(profile["weights"]) == 4


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: numbers, and bytes of the rest."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            assert key & 7 == 2
            length = varint()
            yield key >> 3, data[at : at + length]
            at += length


def _packed(data: bytes) -> list[int]:
    return [value for _, value in _fields(b"".join(b"\x08" + _one for _one in _varints(data)))]


def _varints(data: bytes) -> Iterator[bytes]:
    begin = 0
    for at, byte in enumerate(data):
        if byte < 0x80:
            yield data[begin : at + 1]
            begin = at + 1


def test_pprof_has_the_same_stacks(trace: Path) -> None:
    fields = list(_fields(gzip.decompress(_export(trace, "--pprof"))))
    texts = [value.decode() for number, value in fields if number == 6]
    assert texts[0] == ""
    types = [texts[dict(_fields(value))[1]] for number, value in fields if number == 1]
    assert types == ["pte_pages", "page_milliseconds"]
    assert [texts[value] for number, value in fields if number == 14] == ["pte_pages"]
    functions = {
        dict(_fields(value))[1]: texts[dict(_fields(value))[2]]
        for number, value in fields
        if number == 5
    }
    locations = {}
    for number, value in fields:
        if number == 4:
            location = dict(_fields(value))
            locations[location[1]] = functions[dict(_fields(location[4]))[1]]
    found: dict[tuple[str, ...], int] = {}
    for number, value in fields:
        if number == 2:
            sample = dict(_fields(value))
            frames = [locations[each] for each in _packed(sample[1])][::-1]
            path = _PROCESS, "thread 1", *(name.replace(";", ":") for name in frames)
            found[path] = found.get(path, 0) + _packed(sample[2])[0]
            labels = [dict(_fields(text)) for at, text in _fields(value) if at == 3]
            assert {texts[label[1]]: texts[label[2]] for label in labels} == {
                "process": _PROCESS,
                "thread": "thread 1",
                "call": "MADV_DONTNEED",
            }
    assert found == _collapsed(trace)


def test_an_export_is_the_same_each_time(trace: Path) -> None:
    for option in ("--collapsed", "--speedscope", "--pprof"):
        assert _export(trace, option) == _export(trace, option)


def test_a_trace_without_stacks_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "without.arrows"
    _write(path, facts())
    assert main(["export", str(path), "--collapsed", str(tmp_path / "out")]) == 2
    assert "record it with --stacks" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_trace_gives_what_precedes_the_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.arrows"
    _write(path, facts(), stacks([]), end=False)
    assert main(["export", str(path), "--collapsed", str(tmp_path / "out")]) == 5
    assert "no trailer" in capsys.readouterr().err
    assert (tmp_path / "out").exists()
