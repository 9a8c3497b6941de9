# SPDX-License-Identifier: GPL-2.0-only
"""Fuzz replay and advice with sealed traces of hostile content: python -m tests.fuzz.crafted.

In contrast to `tests.fuzz.trace`, every checksum and sequence number is right here, and facts,
events and readings have hostile values. The fuzzer replays each trace and makes every form of
report. That must end within 5 s and 1 GiB, with a report or the status of a damaged trace, and
the output must not move the cursor.

Needs `pip install 'ptescope[fuzz]'`; arguments are those of libFuzzer.
"""

import io
import json
import sys
from typing import Any

import atheris

from shadow.precompile import prepare

with atheris.instrument_imports(include=["shadow"]):
    from shadow.advice import advise
    from shadow.advice.collect import evidence_of
    from shadow.errors import PtescopeError
    from shadow.events import MAP_FLAGS_SHIFT, Kind
    from shadow.history import HistoryStore
    from shadow.replay import Question, Replay, result_of
    from shadow.report.advice import render_advice
    from shadow.report.summary_table import as_row, summary_table, write_parquet
    from shadow.report.text import render
    from shadow.snapshot import document
    from shadow.trace import TraceReader
    from shadow.trace.layout import Read, Row
    from tests.x86_64 import SLOT
from tests.shadow.hostile import HOSTILE, is_harmless
from tests.shadow.trace.crafted import Crafted, plain_facts
from tests.shadow.trace.traces import records

LIMITS = ("-timeout=5", "-rss_limit_mb=1024", "-max_len=2048", "-len_control=0")
_BASE = 0x10_0000_0000
_EDGES = (0, 1, 4095, 4096, SLOT, 1 << 30, 1 << 38, 1 << 39, 1 << 46, 1 << 47, 1 << 55, 1 << 56,
          1 << 59, 1 << 62, 1 << 63, (1 << 64) - 1)  # fmt: skip
_AUX = (0, 1, 2, 3, 4, 8, 14, 21, 22, 23, 25, 102, 103, 1 << 30, 1 << 31,
        0x22 << MAP_FLAGS_SHIFT | 3, 0x8022 << MAP_FLAGS_SHIFT | 3, 0x12022 << MAP_FLAGS_SHIFT | 3,
        0x40022 << MAP_FLAGS_SHIFT | 3, 0x01 << MAP_FLAGS_SHIFT | 3)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    5,
    1.5,
    1 << 62,
    1 << 64,
    1 << 300,
    "",
    "none",
    "census",
    HOSTILE,
    "dirty_decay_ms:0;$(id)",
    "9" * 30,
    [],
    ["x"],
    [1],
    {},
    {"a": 1},
    {HOSTILE: HOSTILE},
)
_RECORDS = records()[2:]


class _Input:
    """The fuzzer's input as choices."""

    def __init__(self, data: bytes) -> None:
        self._data = atheris.FuzzedDataProvider(data)

    def more(self) -> bool:
        return bool(self._data.remaining_bytes())

    def below(self, limit: int) -> int:
        return int(self._data.ConsumeIntInRange(0, limit - 1))

    def one_of(self, options: Any) -> Any:
        return options[self.below(len(options))]

    def address(self) -> int:
        if self.below(4) == 0:
            return int(self.one_of(_EDGES))
        return _BASE + self.below(64) * (SLOT // 4) + self.below(3) * 4096

    def length(self) -> int:
        if self.below(4) == 0:
            return int(self.one_of(_EDGES))
        return self.below(32) * (SLOT // 8)

    def text(self) -> str:
        return str(self._data.ConsumeUnicode(16))


def _changed(plain: Any, given: _Input) -> Any:
    """The document with one changed value."""
    if isinstance(plain, dict) and plain and given.below(6):
        key = given.one_of(sorted(plain))
        return plain | {key: _changed(plain[key], given)}
    return given.one_of(_VALUES) if given.below(4) else given.text()


def _event(given: _Input) -> tuple[int, ...]:
    kind = given.below(max(Kind) + 3)
    aux = given.one_of(_AUX) if given.below(4) else given.below(1 << 32)
    return kind, given.address(), given.length(), aux


def _rows(given: _Input) -> list[tuple[int, int, int, int]]:
    return [
        (given.one_of((0, 1000, 1 << 61, 1 << 63)), given.address(), given.length(),
         given.below(40))
        for _ in range(given.below(4))
    ]  # fmt: skip


def _reading(crafted: Crafted, given: _Input) -> None:
    record = given.one_of(("seed", "repair", "mappings"))
    what = given.below(32) | (Read.PAGES if given.below(4) else 0)
    brk = given.address() if given.below(4) == 0 else 0
    parts = given.below(5)
    crafted.rows(Row.READING, [(1000 + given.below(9), brk, 0, what)], None, record, more=parts)
    for left in range(parts - 1, -1, -1):
        rows = _rows(given)
        size = given.one_of((64, 16, 0, 128))
        payloads = [bytes([given.below(256)]) * size for _ in rows] if size else None
        crafted.rows(given.one_of(list(Row)), rows, payloads, record, more=left)


def _trace(given: _Input) -> bytes:
    plain = plain_facts()
    if given.below(3) == 0:
        plain["kernel"]["levels"] = 5
    for _ in range(given.below(3)):
        plain = _changed(plain, given)
    crafted = Crafted().facts(plain)
    while given.more():
        match given.below(8):
            case 0:
                crafted.facts(_changed(plain_facts(), given), process=1 + given.below(2))
            case 1 | 2:
                _reading(crafted, given)
            case 3:
                crafted.add(given.one_of(_RECORDS))
            case _:
                events = [_event(given) for _ in range(1 + given.below(12))]
                crafted.events(events * given.one_of((1, 1, 1, 300)))
    return crafted.whole()


def _report(data: bytes) -> None:
    store = HistoryStore(100_000)
    kept: dict[int, Any] = {}
    with TraceReader(io.BytesIO(data), "it") as reader:
        replay = Replay(reader, tee=lambda number: kept.setdefault(number, store.process()))
        replay.run()
        outcome = result_of("it", replay, Question(slots=True))
        for each in outcome.followed:
            assert is_harmless(render(each.snapshot))
            row = as_row(each.snapshot, trace="it", host=each.host, wall_ns=each.wall_ns)
            assert is_harmless(summary_table([row]))
            write_parquet([row], io.BytesIO())
        json.dumps(document([each.snapshot for each in outcome.followed])).encode()
        for number in list(replay.engines):
            end = replay.end_of(number)
            evidence = evidence_of(replay.engines.pop(number), end, kept.pop(number).take())
            assert is_harmless(render_advice(evidence, advise(evidence), detail=True))


def _test(data: bytes) -> None:
    try:
        _report(_trace(_Input(data)))
    except PtescopeError:
        return


if __name__ == "__main__":
    prepare()
    atheris.Setup([sys.argv[0], *LIMITS, *sys.argv[1:]], _test)
    atheris.Fuzz()
