# SPDX-License-Identifier: GPL-2.0-only
"""A sealed trace with any content replays or is damaged, in bounded time and memory."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shadow.events import MAP_FLAGS_SHIFT, PARTLY, Kind
from shadow.precompile import prepare
from shadow.replay import Question, replay_one
from shadow.trace.layout import Read, Row
from tests.shadow.build import BASE, PAGE, RW, SLOT
from tests.shadow.trace.crafted import Crafted, plain_facts
from tests.shadow.trace.traces import records
from tracer.cli import main

_ODD: list[Any] = [
    *(None, True, -1, 0, 1.5, 1e308, 1 << 62, 1 << 63, 1 << 64, 1 << 400),
    *("", "none", "x" * 70, [], [1], ["x"], [[]], {}, {"a": 1}, {"a": "b"}, {"a": {}}),
]
_PRIVATE = 0x22 << MAP_FLAGS_SHIFT | RW
_POPULATE = 0x8000 << MAP_FLAGS_SHIFT
_LOCKED = 0x2000 << MAP_FLAGS_SHIFT
_FIXED = 1 | 2
_SECONDS = 5.0


def _paths(plain: Any) -> Iterator[tuple[str, ...]]:
    """The paths of all values in a document, including containers."""
    if isinstance(plain, dict):
        for key, value in plain.items():
            yield (key,)
            yield from ((key, *path) for path in _paths(value))


def _with(plain: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    key, *others = path
    return plain | {key: _with(plain[key], tuple(others), value) if others else value}


def _status(data: bytes, path: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """The status of each report on a trace: complete or damaged, in bounded time."""
    path.write_bytes(data)
    statuses = set()
    for command in ("replay", "replay --table", "replay --json --slots", "advise --detail"):
        begin = time.monotonic()
        statuses.add(main([*command.split(), str(path)]))
        assert time.monotonic() - begin < _SECONDS
        capsys.readouterr()
    (status,) = statuses
    assert status in (0, 5)
    return status


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """What is bounded is a command, not its compiler."""
    prepare()


@pytest.mark.parametrize("path", list(_paths(plain_facts())), ids=".".join)
def test_every_field_of_facts_is_what_it_should_be_or_damage(
    path: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = 0
    for value in _ODD:
        crafted = Crafted().facts(_with(plain_facts(), path, value))
        for record in records()[2:-1]:
            crafted.add(record)
        damaged += _status(crafted.whole(), tmp_path / "t.arrows", capsys) == 5
    assert damaged


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": {"seed": "guessed"}},
        {"kernel": {"policy": "luck"}},
        {"kernel": {"levels": 3}},
        {"kernel": {"page_size": 0}},
        {"audit": {"method": "prayer"}},
        {"audit": {"runs": 3, "method": "none"}},
        {"process": {"pid": 0}},
        {"process": {"pid": 1 << 23}},
        {"huge": [3, 0, 0]},
        {"huge": [0, 1 << 40, 0]},
    ],
)
def test_impossible_facts_are_damage(
    changes: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = plain_facts()
    for key, value in changes.items():
        plain[key] = plain[key] | value if isinstance(value, dict) else value
    assert _status(Crafted().facts(plain).whole(), tmp_path / "t.arrows", capsys) == 5


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "", "null", '{"process": {}}', "\xff"])
def test_facts_of_the_wrong_shape_are_damage(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payload = text.encode("latin-1")
    crafted = Crafted().rows(Row.FACTS, [(0, 0, 0, 0)], [payload], "facts")
    assert _status(crafted.whole(), tmp_path / "t.arrows", capsys) == 5


def test_a_field_of_a_later_version_is_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = plain_facts() | {"later": {"x": [1]}}
    plain["audit"]["later"] = None
    assert _status(Crafted().facts(plain).whole(), tmp_path / "t.arrows", capsys) == 0


_HIGH = 1 << 47
_WIDE = 1 << 46
_MAPPED = (Kind.MAP, SLOT, _WIDE, _PRIVATE)


@pytest.mark.parametrize(
    "rows",
    [
        [(Kind.FAULT, _HIGH + PAGE, 0, 6)],
        [(Kind.FAULT, 0xFFFF_FFFF_FF60_0000, 0, 4)],
        [(Kind.DONTNEED, BASE, 1 << 60, 4)],
        [(Kind.UNMAP_BEGIN, BASE, (1 << 64) - BASE, 0)],
        [_MAPPED, (Kind.REMAP_FROM, SLOT, _WIDE, _FIXED), (Kind.REMAP_TO, SLOT, 1 << 59, 0)],
        [_MAPPED, (Kind.POPULATE, SLOT, _WIDE, 23)],
        [_MAPPED, (Kind.LOCK, SLOT, _WIDE, 0)],
        [_MAPPED, (Kind.LOCK, 0, 0, 1)],
        [(Kind.MAP, SLOT, _WIDE, _PRIVATE | _POPULATE)],
        [(Kind.MAP, SLOT, _WIDE, _PRIVATE | _LOCKED)],
        [(Kind.LOCK, 0, 0, 2), _MAPPED],
        [_MAPPED, (Kind.ADVISE, SLOT, _WIDE, 102)],
        [(Kind.LOCK, 0, 0, 2), (Kind.BRK, BASE, 0, 0), (Kind.BRK, _WIDE, 0, 0)],
        [
            (Kind.LOCK, 0, 0, 2),
            (Kind.MAP, SLOT, SLOT, _PRIVATE),
            (Kind.REMAP_FROM, SLOT, SLOT, _FIXED),
            (Kind.REMAP_TO, SLOT, _WIDE, 0),
        ],
        [
            (Kind.MAP, SLOT, _WIDE, 0x22 << MAP_FLAGS_SHIFT | 1),
            (Kind.LOCK, SLOT, _WIDE, 1),
            (Kind.PROTECT, SLOT, PAGE, 1),
            (Kind.LOCK, 0, 0, 3),
        ],
        [(Kind.LOSS, 0, 1 << 46, 0)],
        [(max(Kind) + 1, 0, 0, 0)],
        [(0, 0, 0, 0)],
    ],
)
def test_impossible_events_are_damage(
    rows: list[tuple[int, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crafted = Crafted().facts(plain_facts()).events([(Kind.FAULT, BASE, 0, 6)]).events(rows)
    assert _status(crafted.whole(), tmp_path / "t.arrows", capsys) == 5
    main(["replay", str(tmp_path / "t.arrows")])
    out, err = capsys.readouterr()
    assert "server (pid 7)" in out, "what precedes is reported"
    assert "is damaged at byte" in err


def _many(*rows: tuple[int, ...], times: int) -> bytes:
    return Crafted().facts(plain_facts() | {"kernel": _five()}).events(rows * times).whole()


def _five() -> dict[str, Any]:
    found: dict[str, Any] = plain_facts()["kernel"] | {"levels": 5, "user_address_bits": 56}
    return found


@pytest.mark.parametrize(
    ("data", "status"),
    [
        # Maps and unmaps 2^55 bytes: the walk skips absent tables.
        (_many((Kind.MAP, SLOT, 1 << 55, _PRIVATE), (Kind.UNMAP_BEGIN, SLOT, 1 << 55, 0),
               (Kind.UNMAP, SLOT, 1 << 55, 0), times=2000), 0),
        (_many((Kind.MAP, SLOT, 1 << 54, _PRIVATE), (Kind.FAULT, SLOT, 0, 6),
               (Kind.REMAP_FROM, SLOT, 1 << 54, 3), (Kind.REMAP_TO, 1 << 55, 1 << 54, 0),
               (Kind.UNMAP_BEGIN, 1 << 55, 1 << 54, 0), (Kind.UNMAP, 1 << 55, 1 << 54, 0),
               times=2000), 0),
        # Each fills 256 GiB, which is then forgotten: no memory, but time.
        (_many((Kind.MAP, SLOT, 1 << 38, _PRIVATE | _POPULATE),
               (Kind.UNMAP_BEGIN, SLOT, 1 << 38, 0), (Kind.UNMAP, SLOT, 1 << 38, 0),
               times=2000), 5),
        (_many((Kind.MAP, SLOT, 1 << 38, _PRIVATE), (Kind.POPULATE, SLOT, 1 << 38, 23),
               (Kind.EXEC, 0, 0, 0), times=2000), 5),
        # Repeated mremap of the same memory.
        (_many((Kind.MAP, SLOT, SLOT, _PRIVATE), (Kind.REMAP_FROM, SLOT, SLOT, 3),
               (Kind.REMAP_TO, 1 << 40, SLOT, 0), times=5000), 0),
    ],
    ids=["unmap", "remap", "populate", "exec", "remap small"],
)  # fmt: skip
def test_time_goes_with_the_length_of_a_trace(
    data: bytes, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _status(data, tmp_path / "t.arrows", capsys) == status


def test_a_large_populate_is_replayed_where_it_is_allowed(tmp_path: Path) -> None:
    """2 TiB at once: more than the default limit, but possible with a higher one."""
    path = tmp_path / "t.arrows"
    rows = [(Kind.MAP, SLOT, 1 << 41, _PRIVATE | _POPULATE)]
    path.write_bytes(Crafted().facts(plain_facts()).events(rows).whole())
    assert replay_one(str(path), Question()).status == 5
    found = replay_one(str(path), Question(max_memory=2 << 30))
    assert found.status == 0
    assert found.followed[0].snapshot.now.pte_pages == 1 << 20


def test_faults_far_apart_take_no_more_than_their_room(tmp_path: Path) -> None:
    """Each event creates three tables: 4 KiB for one byte of the trace."""
    rows = [(Kind.FAULT, number << 30, 0, 6) for number in range(100_000)]
    path = tmp_path / "t.arrows"
    path.write_bytes(Crafted().facts(plain_facts()).events(rows).whole())
    outcome = replay_one(str(path), Question(max_memory=128 << 20))
    assert outcome.status == 5
    assert outcome.problem is not None
    assert "need more than 128 MiB of memory (--max-memory allows more)" in outcome.problem


_ONES = b"\xff" * 64
_READ = Read.PAGES | Read.EXACT


_Part = tuple[int, list[tuple[int, int, int, int]], list[bytes] | None]


def _seed(*parts: _Part, what: int = _READ, brk: int = 0, time: int = 1000) -> bytes:
    crafted = Crafted().facts(plain_facts())
    rows = [(Row.READING, [(time, brk, 0, what)], None), *parts]
    for left, (kind, each, payloads) in zip(reversed(range(len(rows))), rows, strict=True):
        crafted.rows(kind, each, payloads, "seed", more=left)
    return crafted.whole()


@pytest.mark.parametrize(
    "data",
    [
        _seed((Row.PTE_PAGE, [(0, BASE, 0, 0)], [_ONES * 2])),
        _seed((Row.PTE_PAGE, [(0, BASE, 0, 0), (0, BASE + SLOT, 0, 0)], [_ONES, b""])),
        _seed((Row.PTE_PAGE, [(0, BASE + PAGE, 0, 0)], [_ONES])),
        _seed((Row.PTE_PAGE, [(0, _HIGH, 0, 0)], [_ONES])),
        _seed((Row.PTE_PAGE, [(0, 1 << 63, 0, 0)], [_ONES])),
        _seed((Row.PTE_PAGE, [(0, BASE + SLOT, 0, 0), (0, BASE, 0, 0)], [_ONES] * 2)),
        _seed((Row.HUGE, [(0, BASE, 0, 7)], None)),
        _seed((Row.VMA, [(0, BASE, 1 << 60, 3)], [b"\0" * 16])),
        _seed((Row.VMA, [(0, BASE, 0, 3)], [b"\0" * 16])),
        _seed((Row.VMA, [(0, BASE, SLOT, 3)], [b"\0" * 40])),
        _seed((Row.VMA, [(0, BASE, SLOT, 3), (0, BASE + PAGE, SLOT, 3)], [b"\0" * 16] * 2)),
        _seed((Row.RANGE, [(0, BASE, 1 << 63, 0)], None), what=_READ | Read.RANGES),
        _seed((Row.PMD_PAGE, [(0, BASE + SLOT, 0, 0)], None), what=_READ | Read.UPPER),
        _seed((Row.PUD_PAGE, [(0, 1 << 50, 0, 0)], None), what=_READ | Read.UPPER),
        _seed(brk=1 << 62),
        _seed(time=1 << 63),
    ],
)
def test_impossible_readings_are_damage(
    data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _status(data, tmp_path / "t.arrows", capsys) == 5


@pytest.mark.parametrize(
    ("record", "process", "more"),
    [
        ("seed", 1, 0), ("nothing", 1, 0), (7, 1, 0), (None, 1, 0), ([], 1, 0),
        ("events", 2, 0), ("events", 0, 0), ("events", -1, 0), ("events", "1", 0),
        ("events", 1.5, 0), ("events", None, 0), ("events", [1], 0), ("events", True, 0),
        ("events", 1 << 70, 0),
    ],
)  # fmt: skip
def test_invalid_seals_are_damage(
    record: Any, process: Any, more: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from shadow.trace.file import _EMPTY

    crafted = Crafted().facts(plain_facts()).put(_EMPTY, record, process, more)
    assert _status(crafted.whole(), tmp_path / "t.arrows", capsys) == 5


def test_a_buffer_that_claims_a_huge_size_is_not_unpacked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Equal rows compress to a thousandth; 2 GiB of them are 200 KB."""
    rows = [(0, BASE + SLOT * number, 0, 0) for number in range(1 << 20)]
    crafted = Crafted().facts(plain_facts())
    crafted.rows(Row.READING, [(1000, 0, 0, _READ)], None, "seed", more=9)
    for left in range(8, 0, -1):
        crafted.rows(Row.PTE_PAGE, rows, [_ONES] * len(rows), "seed", more=left)
    assert _status(crafted.whole(), tmp_path / "t.arrows", capsys) == 5


def test_rows_at_intervals_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.arrows"
    crafted = Crafted().facts(plain_facts()).events([(Kind.FAULT, BASE, 0, 6)])
    path.write_bytes(crafted.facts(plain_facts() | {"told_ns": 1 << 61}).whole())
    assert main(["replay", str(path), "-i", "0.1"]) == 2
    assert "Use a longer interval with -i" in capsys.readouterr().err
    assert main(["replay", str(path)]) == 0
    assert main(["export", str(path), "--perfetto", str(tmp_path / "c.json")]) == 2


def test_partly_done_calls_of_real_programs_are_no_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        (Kind.MAP, BASE, 4 * SLOT, _PRIVATE),
        (Kind.PROTECT, BASE, 8 * SLOT, PARTLY | 1),
        (Kind.LOCK, BASE, 8 * SLOT, PARTLY),
        (Kind.UNLOCK, 0, 0, 0),
        (Kind.DONTNEED, BASE, _HIGH - BASE, 4),
    ]
    data = Crafted().facts(plain_facts()).events(rows).whole()
    assert _status(data, tmp_path / "t.arrows", capsys) == 0
