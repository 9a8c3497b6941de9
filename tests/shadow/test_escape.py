# SPDX-License-Identifier: GPL-2.0-only
"""Untrusted text prints as visible characters on one line, and is valid Unicode in documents."""

import json
import sys
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.escape import plain, printable, reporter, valid
from shadow.table.state import HugePages
from tests.shadow.hostile import HOSTILE, is_harmless


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis-server", "redis-server"),
        ("Datenbank ä 東京 ▁█", "Datenbank ä 東京 ▁█"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb\u200bc", "a\\u202eb\\u200bc"),
        ("a\u3164\ufe0fb", "a\\u3164\\ufe0fb"),
        ("\udcff\ud800", "\\xff\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("[red]x[/red]", "[red]x[/red]"),
    ],
)
def test_invisible_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_any_text_becomes_visible_characters(text: str) -> None:
    assert is_harmless(printable(text), lines=False)
    assert printable(printable(text)) == printable(text)


def test_every_character_is_examined() -> None:
    text = "".join(map(chr, range(sys.maxunicode + 1)))
    assert is_harmless(printable(text), lines=False)
    assert valid(text).encode("utf-8")


@dataclass(frozen=True)
class _Data:
    name: str
    counts: list[int]
    more: dict[str, list[str]] = field(default_factory=dict)
    huge: HugePages = field(default_factory=HugePages)


def test_nested_data_is_escaped_completely() -> None:
    data = _Data("a\n", [1, 2], {"k\x1b": ["x", "y\x07"]})
    assert plain(data) == _Data("a\\n", [1, 2], {"k\\x1b": ["x", "y\\x07"]})
    assert plain([1, "a\n"]) == [1, "a\\n"]
    assert plain(("a\n", 1)) == ("a\\n", 1)


def test_data_without_such_text_is_the_same_object() -> None:
    """Data without such text is returned itself, because it may have costly cached values."""
    data = _Data("a", [1], {"k": ["x"]})
    assert plain(data) is data


def test_documents_keep_every_character_that_is_one() -> None:
    read = json.loads(json.dumps(valid({"name" + HOSTILE: [HOSTILE]})))
    assert read == {"name" + valid(HOSTILE): [HOSTILE[:-2] + "\\xff\\ud800"]}
    assert repr(read).encode()


def test_a_reporter_sees_harmless_texts() -> None:
    @reporter
    def report(data: _Data, *, title: str) -> str:
        return f"{title}: {data.name}"

    assert report(_Data(HOSTILE, []), title=HOSTILE).count("\n") == 0
