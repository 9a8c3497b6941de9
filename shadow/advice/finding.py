# SPDX-License-Identifier: GPL-2.0-only
"""The parts of advice: a finding, its change, and the expected effect."""

from dataclasses import asdict, dataclass, field
from typing import Any

from shadow.geometry import PAGE

__all__ = ("Change", "Effect", "Finding", "at_most", "exactly", "within_a_factor_of_two")

_MORE = 1.1
"""Upper end of a range: two runs of the same load differ by about a tenth."""


@dataclass(frozen=True)
class Effect:
    """The range of PTE pages that a change saves, once the process is idle."""

    least: int
    most: int
    basis: str

    def as_json(self) -> dict[str, Any]:
        """The ranges in pages and in bytes."""
        pages = [self.least, self.most]
        return {"pte_pages": pages, "bytes": [n * PAGE for n in pages], "basis": self.basis}


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

    @property
    def weight(self) -> tuple[bool, int, int]:
        """The sort key of findings: urgency, then the least and the most PTE pages saved."""
        least, most = (self.effect.least, self.effect.most) if self.effect else (-1, -1)
        return self.urgent, least, most

    def as_json(self) -> dict[str, Any]:
        """The finding in the form of schema 1."""
        plain = asdict(self)
        plain["effect"] = self.effect.as_json() if self.effect else None
        return plain
