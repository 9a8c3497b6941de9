# SPDX-License-Identifier: GPL-2.0-only
"""Tables as text: columns of fixed width, and unchanged texts."""

import pytest
from rich.cells import cell_len

from shadow.report.text_table import TextTable, left, right

_TABLE = TextTable(left("name", 8), right("pages", 7), left("rest"))


def test_widths_are_the_same_for_all_rows() -> None:
    assert _TABLE.heading() == "name       pages rest"
    assert _TABLE.row("redis", "1,234", "a b") == "redis      1,234 a b"
    assert _TABLE.lines([("redis", "1,234", "a b")]) == [
        "name       pages rest",
        "redis      1,234 a b",
    ]


def test_a_wider_cell_moves_the_whole_column() -> None:
    lines = _TABLE.lines([("a-very-long-name", "1", "x"), ("b", "2", "y")])
    assert [line.index(end) for line, end in zip(lines[1:], "xy", strict=True)] == [25, 25]
    long = "n" * 5000
    assert long in _TABLE.row(long, "1", "x")


def test_characters_of_two_columns_count_as_two() -> None:
    assert cell_len(_TABLE.row("日本", "1", "")) == cell_len(_TABLE.row("jp", "1", ""))


@pytest.mark.parametrize("text", ["[red]x[/red]", ":smile:", "[link=x]y", "\\[b]", "[/]"])
def test_no_text_is_markup(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "10")
    assert _TABLE.row("a", "1", text).endswith(f" {text}")
    assert "\x1b" not in _TABLE.row("a", "1", text)
