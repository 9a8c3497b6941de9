# SPDX-License-Identifier: GPL-2.0-only
"""Advice: what to change, what that saves, what it costs.

The package is pure: it turns evidence into ranked findings. A rule returns nothing rather
than guess, and a prediction is a range with its basis.
"""

from dataclasses import replace

from shadow.advice.audience import addressed
from shadow.advice.evidence import (
    Evidence,
    HostFacts,
    Purges,
    Slots,
    classify_slots,
    measure_purges,
)
from shadow.advice.finding import Change, Effect, Finding
from shadow.advice.limits import limits
from shadow.advice.nothing_to_do import worth_saying
from shadow.advice.rules import RULES

__all__ = (
    "Change",
    "Effect",
    "Evidence",
    "Finding",
    "HostFacts",
    "Purges",
    "Slots",
    "advise",
    "classify_slots",
    "judge",
    "limits",
    "measure_purges",
)


def _bounded(finding: Finding, evidence: Evidence) -> Finding:
    """Limit the effect to the tables that exist; a range allows for runs that differ.

    The effect gets the size of these tables.
    """
    now, effect = evidence.snapshot.now, finding.effect
    if effect is None:
        return finding
    there, upper = now.pte_pages, now.pmd_pages + now.pud_pages
    least, most = min(effect.least, there), min(effect.most, there)
    bounded = replace(
        effect,
        least=least,
        most=most,
        upper=min(effect.upper, upper),
        page_size=evidence.geometry.page,
    )
    return finding if bounded == effect else replace(finding, effect=bounded)


def judge(evidence: Evidence) -> list[Finding]:
    """The findings of all rules, including small ones."""
    return [
        addressed(_bounded(finding, evidence), evidence.program)
        for rule in RULES
        if (finding := rule(evidence))
    ]


def advise(evidence: Evidence, judged: list[Finding] | None = None) -> list[Finding]:
    """All findings, the weightiest first; before them `nothing_to_do`, if little is at stake.

    Args:
        evidence: the evidence about one process.
        judged: the result of `judge` for this evidence, if it is known already.
    """
    return worth_saying(evidence, judge(evidence) if judged is None else judged)
