# SPDX-License-Identifier: GPL-2.0-only
"""Advice on many processes of one name: one finding for all of them, with the sum.

Each process is judged by itself first, with thresholds that are for all together: what is
too little in each of twelve workers may be enough in all. Findings of the same rule are
then one, and whether there is anything to do is decided by the sums.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from itertools import zip_longest

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Effect, Finding
from shadow.advice.limits import limits
from shadow.advice.many_processes import many_processes
from shadow.advice.nothing_to_do import worth_saying
from shadow.family import Family, family_of
from shadow.mappings import combined
from shadow.snapshot import Now, Snapshot

__all__ = ("FamilyAdvice", "JudgedProcess", "advise_family")

_OCCUPANCY, _MAY_BE_UNKNOWN = "occupancy", ("lazyfree_only", "vm_pte_kib")


@dataclass(frozen=True)
class JudgedProcess:
    """A process, and all that rules say of it, however little that is.

    Attributes:
        evidence: without its history, which is large and not needed any more.
        found: by any rule.
    """

    evidence: Evidence
    found: list[Finding]


@dataclass(frozen=True)
class FamilyAdvice:
    """What to change in all of them.

    Attributes:
        family: their sums.
        findings: the weightiest first.
        limits: what could not be judged in any of them, and why.
    """

    family: Family
    findings: list[Finding]
    limits: list[str]


def _sum_of(every: Iterable[Now]) -> Now:
    """Page tables of several processes as if they were one's."""
    nows = list(every)
    sums: dict[str, object] = {}
    for name in (field.name for field in fields(Now)):
        values = [getattr(now, name) for now in nows]
        if name == _OCCUPANCY:
            sums[name] = [sum(column) for column in zip_longest(*values, fillvalue=0)]
        elif name in _MAY_BE_UNKNOWN and None in values:
            sums[name] = None
        else:
            sums[name] = sum(values)
    return Now(**sums)  # type: ignore[arg-type]


def _as_one(members: list[Evidence]) -> Evidence:
    """The evidence of all as if it were one process's; nothing is known of its history."""
    first = members[0]
    uses = [use for member in members for use in member.snapshot.mappings or []]
    snapshot: Snapshot = replace(
        first.snapshot,
        now=_sum_of(member.snapshot.now for member in members),
        mappings=combined(uses) if uses else None,
    )
    host = replace(
        first.host,
        resident=sum(member.host.resident for member in members),
        vmas=sum(member.host.vmas for member in members),
    )
    seeded = all(member.seeded for member in members)
    return replace(first, snapshot=snapshot, host=host, slots=None, future=None, seeded=seeded)


def _merged(rule: list[tuple[JudgedProcess, Finding]], of: int) -> Finding:
    """The findings of one rule as one; the weightiest speaks for all."""
    judged, most = max(rule, key=lambda each: each[1].weight)
    effects = [finding.effect for _, finding in rule if finding.effect]
    pid = judged.evidence.snapshot.process.pid
    effect = None
    if effects:
        effect = Effect(
            sum(each.least for each in effects),
            sum(each.most for each in effects),
            f"The sum over {len(effects):,} processes. In each: {effects[0].basis}",
            upper=sum(each.upper for each in effects),
            page_size=effects[0].page_size,
        )
    return replace(
        most,
        why=f"In {len(rule):,} of {of:,} processes; of the one with most of it, pid {pid}: "
        f"{most.why}",
        numbers={"processes": len(rule), "of": of},
        effect=effect,
        urgent=any(finding.urgent for _, finding in rule),
        slots=[],
    )


def advise_family(name: str, members: list[JudgedProcess]) -> FamilyAdvice:
    """One list of findings for processes of one name.

    Args:
        name: which they have in common.
        members: at least one.
    """
    by_rule: dict[str, list[tuple[JudgedProcess, Finding]]] = {}
    for member in members:
        for finding in member.found:
            by_rule.setdefault(finding.rule, []).append((member, finding))
    found = [_merged(rule, len(members)) for rule in by_rule.values()]
    evidence = [member.evidence for member in members]
    family = family_of("name", name, [each.snapshot for each in evidence])
    if together := many_processes(family, evidence):
        found.append(together)
    said = dict.fromkeys(sentence for each in evidence for sentence in limits(each))
    return FamilyAdvice(family, worth_saying(_as_one(evidence), found), list(said))
