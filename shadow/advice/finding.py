# SPDX-License-Identifier: GPL-2.0-only
"""The parts of advice: a finding, its change, and the expected effect."""

from dataclasses import asdict, dataclass, field
from typing import Any

from shadow.escape import valid
from shadow.geometry import X86_64

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
"""Upper end of a range: two runs of the same load differ by about a tenth."""


@dataclass(frozen=True)
class Effect:
    """The range of PTE pages that a change saves, once the process is idle.

    `upper` is the most PMD and PUD pages that it saves, where a rule judges those; `page_size`
    is the size of each in bytes.
    """

    least: int
    most: int
    basis: str
    upper: int = 0
    page_size: int = X86_64.page

    @property
    def tables(self) -> int:
        """The most page tables of all levels that it saves."""
        return self.most + self.upper

    @property
    def bytes(self) -> int:
        """The size of these tables."""
        return self.tables * self.page_size

    def as_json(self) -> dict[str, Any]:
        """Ranges of pages and bytes; those of upper levels only where a rule judges them."""
        upper = {"upper_pages": [0, self.upper]} if self.upper else {}
        return {
            "pte_pages": [self.least, self.most],
            **upper,
            "bytes": [self.least * self.page_size, self.bytes],
            "basis": self.basis,
        }


def exactly(pages: int, basis: str) -> Effect:
    """A counted effect, not a predicted one."""
    return Effect(pages, pages, basis)


def at_most(pages: int, basis: str) -> Effect:
    """An effect with a known upper bound only."""
    return Effect(0, pages, basis)


def within_a_factor_of_two(pages: int, basis: str) -> Effect:
    """An effect for which a model computes the best case.

    A model merges and releases memory without friction. A real run saves between half of
    the best case and slightly more than it.
    """
    most = round(pages * _MORE)
    return Effect((most + 1) // 2, most, basis)


def after_a_restart(least: int, most: int, basis: str) -> Effect:
    """An effect that is counted in this run and shows in another, whose layout differs."""
    return Effect(round(least / _MORE), round(most * _MORE), basis)


@dataclass(frozen=True)
class Change:
    """The action: a sentence, and the exact settings, commands or code, one line each."""

    what: str
    how: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Finding:
    """One piece of advice.

    Attributes:
        rule: the name of the rule that found it.
        title: the problem, in one line.
        why: the evidence, in one sentence with numbers.
        numbers: the same numbers by name.
        change: the action; None: there is none.
        effect: the saving of the change; None: the saving in PTE pages is unknown.
        risks: the costs of the change, and what can go wrong.
        verify: how to check that the change worked.
        source: the source of the facts.
        urgent: whether the finding comes first, whatever it saves.
        slots: first addresses of the affected slots, where they matter.
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
        """The finding in the form of schema 1."""
        plain = asdict(self)
        plain["effect"] = self.effect.as_json() if self.effect else None
        return valid(plain)
