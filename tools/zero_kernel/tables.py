# SPDX-License-Identifier: GPL-2.0-only
"""The outcomes on both kernels as tables in Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any

from shadow.policy import Policy
from tools.zero_kernel.run import Cost, Outcome

__all__ = ("tables",)

_PLAIN, _ZERO = Policy.PT_RECLAIM.label, Policy.DONTNEED_ZERO.label
_FIGURES = ("peak", "mean", "pte_pages", "empty")


def _table(heading: tuple[str, ...], rows: Iterable[Iterable[object]]) -> str:
    lines = [heading, ("---", *["--:"] * (len(heading) - 1)), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _figures(policies: Mapping[str, Any], policy: str) -> str:
    return " / ".join(f"{policies[policy][name]:,.0f}" for name in _FIGURES)


def _names(*outcomes: Outcome) -> list[str]:
    return [name for name in outcomes[0] if name != "kernel"]


def _agreement(plain: Outcome, zero: Outcome) -> str:
    heading = (
        "program",
        "kernel",
        "events",
        "lost",
        "PTE pages, real",
        "shadow",
        "empty, real",
        "shadow",
        "audits",
        "PTE pages wrong",
        "entries wrong",
    )
    rows = []
    for name in _names(plain):
        for outcome, policy in ((plain, _PLAIN), (zero, _ZERO)):
            said = outcome[name]
            real, shadow, audit = said["real"], said["policies"][policy], said["audit"]
            rows.append(
                (
                    name,
                    outcome["kernel"]["policy"],
                    f"{sum(said['events'].values()):,}",
                    f"{said['lost']:,}",
                    f"{real['pte_pages']:,}",
                    f"{shadow['pte_pages']:,}",
                    f"{real['empty']:,}",
                    f"{shadow['empty']:,}",
                    audit["runs"],
                    max(
                        audit["pte_pages_diff"] + audit["empty_missing"] + audit["empty_extra"],
                        len(said["wrong_slots"]),
                    ),
                    f"{audit['refs_diff']:,}",
                )
            )
    return _table(heading, rows)


def _gain(plain: Outcome, zero: Outcome) -> str:
    heading = (
        "program",
        "plain",
        "zero",
        "predicted for zero",
        "freed, plain",
        "zero",
        "predicted",
        "allocated again, plain",
        "zero",
        "predicted",
    )
    rows = []
    for name in _names(plain):
        before, after = plain[name]["policies"], zero[name]["policies"]
        measured = (before[_PLAIN], after[_ZERO], before[_ZERO])
        rows.append(
            (
                name,
                _figures(before, _PLAIN),
                _figures(after, _ZERO),
                _figures(before, _ZERO),
                *(f"{one['freed']:,}" for one in measured),
                *(f"{one['reallocated']:,}" for one in measured),
            )
        )
    return _table(heading, rows)


def _left(remains: int, pages: int) -> str:
    if remains >= 0:
        return f"entry {remains}"
    return "nothing, whole slot" if pages == 512 else "nothing"


def _cost(plain: Mapping[tuple[int, int], Cost], zero: Mapping[tuple[int, int], Cost]) -> str:
    rows = [
        (
            pages,
            _left(remains, pages),
            f"{plain[pages, remains].call:,}",
            f"{zero[pages, remains].call:,}",
            f"{zero[pages, remains].call - plain[pages, remains].call:+,}",
            f"{plain[pages, remains].fault:,}",
            f"{zero[pages, remains].fault:,}",
        )
        for pages, remains in plain
    ]
    heading = (
        "pages of the call",
        "what remains",
        "call, plain",
        "zero",
        "difference",
        "next fault, plain",
        "zero",
    )
    return _table(heading, rows)


def _share(policies: Mapping[str, Any], policy: str) -> str:
    """The saved page-seconds of a policy, as a share of those of pte_ref."""
    most = policies[Policy.PTE_REF.label]["saved_page_seconds"]
    return f"{policies[policy]['saved_page_seconds'] / most:.0%}" if most else "-"


def _beyond(plain: Outcome) -> str:
    rows = []
    for name in _names(plain):
        policies = plain[name]["policies"]
        rows.append(
            (
                name,
                *(f"{policies[p.label]['pte_pages']:,}" for p in Policy),
                *(f"{policies[p.label]['mean']:,.0f}" for p in Policy),
                _share(policies, _PLAIN),
                _share(policies, _ZERO),
            )
        )
    labels = [policy.label for policy in Policy]
    heading = (
        "program",
        *(f"end, {label}" for label in labels),
        *(f"mean, {label}" for label in labels),
        f"{_PLAIN} of the gain",
        f"{_ZERO} of the gain",
    )
    return _table(heading, rows)


def tables(
    plain: Outcome,
    zero: Outcome,
    cost_plain: Mapping[tuple[int, int], Cost],
    cost_zero: Mapping[tuple[int, int], Cost],
) -> str:
    """All tables, each with a sentence on what it shows."""
    return "\n\n".join(
        (
            "Agreement of the shadow with the page tables, at the end and in all audits:",
            _agreement(plain, zero),
            "PTE pages, as peak / mean / at the end / of these empty. *Predicted* is what the "
            "trace of the plain kernel gives under `dontneed_zero`:",
            _gain(plain, zero),
            "Instructions of a MADV_DONTNEED and of the next fault in its first page, medians:",
            _cost(cost_plain, cost_zero),
            "The trace of the plain kernel under each policy, and the part of the page-seconds "
            "saved by `pte_ref` that a smaller rule saves:",
            _beyond(plain),
        )
    )
