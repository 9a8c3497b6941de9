# SPDX-License-Identifier: GPL-2.0-only
"""What advice consists of: a finding, its change, the effect that is expected."""

from dataclasses import asdict, dataclass, field
from typing import Any

from shadow.escape import valid
from shadow.geometry import PAGE

__all__ = (
    "MAKERS",
    "Change",
    "Effect",
    "Finding",
    "after_a_restart",
    "at_most",
    "exactly",
    "within_a_factor_of_two",
)

MAKERS = "makers"
"""The `audience` of what only those who write a program can change."""

_MORE = 1.1
"""A run differs from the next by about a tenth, and so does the upper end of a range."""


@dataclass(frozen=True)
class Effect:
    """PTE pages that a change saves, once the process rests: from the least to the most.

    `upper` are the PMD and PUD pages that go as well, where a rule judges those; at least none.
    """

    least: int
    most: int
    basis: str
    upper: int = 0

    @property
    def tables(self) -> int:
        """The most page tables of all levels that it saves."""
        return self.most + self.upper

    def as_json(self) -> dict[str, Any]:
        """Ranges of pages and bytes; those of upper levels only where a rule judges them."""
        upper = {"upper_pages": [0, self.upper]} if self.upper else {}
        return {
            "pte_pages": [self.least, self.most],
            **upper,
            "bytes": [self.least * PAGE, self.tables * PAGE],
            "basis": self.basis,
        }


def exactly(pages: int, basis: str) -> Effect:
    """An effect that is counted, not predicted."""
    return Effect(pages, pages, basis)


def at_most(pages: int, basis: str) -> Effect:
    """An effect of which only a bound is known."""
    return Effect(0, pages, basis)


def within_a_factor_of_two(pages: int, basis: str) -> Effect:
    """An effect of which a model tells the most that may be expected.

    Models merge and release without friction; what a real run gets lies between the
    half of that and somewhat more.
    """
    most = round(pages * _MORE)
    return Effect((most + 1) // 2, most, basis)


def after_a_restart(least: int, most: int, basis: str) -> Effect:
    """An effect that is counted in this run and shows in another, whose layout differs."""
    return Effect(round(least / _MORE), round(most * _MORE), basis)


@dataclass(frozen=True)
class Change:
    """What to do: in words, and exactly (settings, commands or code, a line each)."""

    what: str
    how: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Finding:
    """One piece of advice.

    Attributes:
        rule: the name of the rule that found it.
        title: what is the matter, in a line.
        why: the evidence, in a sentence with its numbers.
        numbers: the same numbers by name.
        change: what to do; None: nothing.
        effect: what that saves; None: nothing that can be told in PTE pages.
        risks: what it costs and what may go wrong.
        verify: how to see that it worked.
        source: where the facts come from.
        urgent: whether it goes first whatever it saves.
        slots: first addresses of the slots that it is about, where they matter.
        audience: "makers" where only those who write the program can follow it, and the reader
            only runs it; else "anyone".
    """

    rule: str
    title: str
    why: str
    numbers: dict[str, int | float | str]
    change: Change | None = None
    effect: Effect | None = None
    risks: list[str] = field(default_factory=list)
    verify: str = ""
    source: str = ""
    urgent: bool = False
    slots: list[int] = field(default_factory=list)
    audience: str = "anyone"

    @property
    def weight(self) -> tuple[bool, bool, int, int]:
        """What findings are ranked by.

        Urgency, whether the reader can follow it, then the least and the most they save.
        """
        least, most = (self.effect.least, self.effect.tables) if self.effect else (-1, -1)
        return self.urgent, self.audience != MAKERS, least, most

    def as_json(self) -> dict[str, Any]:
        """As schema 1 has it."""
        plain = asdict(self)
        plain["effect"] = self.effect.as_json() if self.effect else None
        return valid(plain)
