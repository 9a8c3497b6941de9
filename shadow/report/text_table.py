# SPDX-License-Identifier: GPL-2.0-only
"""Tables as plain text: rich lays them out, without markup, colours or wrapping.

The width of a column depends on its cells and its minimum width, not on the output device. rich
measures the terminal columns that a character takes; len() does not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich.console import Console, JustifyMethod
from rich.table import Column, Table
from rich.text import Text

__all__ = ("TextTable", "left", "right")

_WIDEST = 1 << 16
"""Wider than any line of a table, so rich never wraps or cuts a cell."""


def left(heading: str, width: int = 0) -> Column:
    """A left-aligned text column, at least `width` wide."""
    return _column(heading, width, "left")


def right(heading: str, width: int = 0) -> Column:
    """A right-aligned number column, at least `width` wide."""
    return _column(heading, width, "right")


def _column(heading: str, width: int, justify: JustifyMethod) -> Column:
    return Column(Text(heading), justify=justify, min_width=width, no_wrap=True, overflow="crop")


class TextTable:
    """A table with fixed columns.

    Args:
        columns: the columns from left to right; see `left` and `right`.
        gap: the number of spaces between columns.
    """

    def __init__(self, *columns: Column, gap: int = 1) -> None:
        self._columns, self._gap = columns, gap

    def lines(self, rows: Iterable[Sequence[str]], *, heading: bool = True) -> list[str]:
        """The lines of the table, one for each row.

        Args:
            rows: the cells of each row; the caller has escaped them (`shadow.escape`).
            heading: whether to add a first line with the names of the columns.
        """
        table = Table(
            *(replace(column, _cells=[]) for column in self._columns),
            box=None,
            padding=(0, self._gap, 0, 0),
            pad_edge=False,
            show_header=heading,
        )
        for row in rows:
            table.add_row(*map(Text, row))
        console = Console(width=_WIDEST)
        rendered = console.render_lines(table, pad=False)
        return ["".join(segment.text for segment in line).rstrip() for line in rendered]

    def heading(self) -> str:
        """The heading alone, for a table whose rows arrive one at a time."""
        (line,) = self.lines([])
        return line

    def row(self, *cells: str) -> str:
        """A single row."""
        (line,) = self.lines([cells], heading=False)
        return line
