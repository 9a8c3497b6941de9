# SPDX-License-Identifier: GPL-2.0-only
"""Tables as plain text: rich lays them out, without markup, colours or wrapping.

Columns have the same width wherever the text goes, unless a cell needs more. rich counts
the columns of a terminal that a character takes, which len() does not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich.console import Console, JustifyMethod
from rich.table import Column, Table
from rich.text import Text

__all__ = ("TextTable", "left", "right")

_WIDEST = 1 << 16
"""No line of a table is as wide, so rich never wraps or cuts a cell."""


def left(heading: str, width: int = 0) -> Column:
    """A column of texts, at least `width` wide."""
    return _column(heading, width, "left")


def right(heading: str, width: int = 0) -> Column:
    """A column of numbers, at least `width` wide."""
    return _column(heading, width, "right")


def _column(heading: str, width: int, justify: JustifyMethod) -> Column:
    return Column(Text(heading), justify=justify, min_width=width, no_wrap=True, overflow="crop")


class TextTable:
    """The columns of a table.

    Args:
        columns: from left to right; see `left` and `right`.
        gap: blanks between columns.
    """

    def __init__(self, *columns: Column, gap: int = 1) -> None:
        self._columns, self._gap = columns, gap

    def lines(self, rows: Iterable[Sequence[str]], *, heading: bool = True) -> list[str]:
        """The table, a line for each row.

        Args:
            rows: a text for each column; texts are escaped already (`shadow.escape`).
            heading: whether the first line names the columns.
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
        """The first line alone, for a table whose rows come one at a time."""
        (line,) = self.lines([])
        return line

    def row(self, *cells: str) -> str:
        """One row alone."""
        (line,) = self.lines([cells], heading=False)
        return line
