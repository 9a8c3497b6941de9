# SPDX-License-Identifier: GPL-2.0-only
"""Advice as text: each finding in a few lines, or with everything that is known of it."""

from textwrap import wrap

from shadow.advice import Evidence, Finding, limits
from shadow.advice.family import FamilyAdvice
from shadow.advice.finding import Effect
from shadow.escape import reporter
from shadow.report.family import render_family
from shadow.report.format import compared_lines, origin_lines, share, size
from shadow.units import NS

__all__ = ("render_advice", "render_family_advice")

_WIDTH = 87
_SHORT = 2
"""The number of lines of a change that are shown without --detail."""


_LITTLE = ("nothing_to_do", "little_to_save")
"""Rules that come first where all others save little."""


def _saves(effect: Effect) -> str:
    def in_bytes(pages: int) -> str:
        return size(pages * effect.page_size)

    if effect.upper:
        lower = f"{effect.most:,} PTE pages and " if effect.most else ""
        return f"at most {lower}{effect.upper:,} PMD and PUD pages, {in_bytes(effect.tables)}"
    if effect.least == effect.most:
        return f"{effect.most:,} PTE pages, {in_bytes(effect.most)}"
    if effect.least == 0:
        return f"at most {effect.most:,} PTE pages, {in_bytes(effect.most)}"
    return (
        f"{effect.least:,} to {effect.most:,} PTE pages, {in_bytes(effect.least)} to "
        f"{in_bytes(effect.most)}"
    )


def _finding(number: int, finding: Finding, *, detail: bool) -> list[str]:
    lines = ["", f"{number}. {finding.title}", *_part("why", [finding.why])]
    if finding.effect:
        lines += _part("saves", [_saves(finding.effect)])
        lines += _part("basis", [finding.effect.basis] if detail else [])
    if finding.change:
        how = finding.change.how
        lines += _part("do", [finding.change.what, *how] if detail or not how else how[:_SHORT])
    lines += _part("costs", finding.risks if detail else finding.risks[:1])
    if detail:
        lines += _part("verify", [finding.verify] if finding.verify else [])
        lines += _part("source", [finding.source] if finding.source else [])
    return lines


def _part(name: str, sentences: list[str]) -> list[str]:
    """The wrapped sentences; the name of the part precedes the first line."""
    lines = [
        part
        for sentence in sentences
        for part in wrap(sentence, _WIDTH, break_long_words=False, break_on_hyphens=False)
    ]
    return [f"     {'' if i else name:<7} {line}" for i, line in enumerate(lines)]


def _margin(name: str, sentences: list[str]) -> list[str]:
    """The wrapped sentences; the name of the part precedes the first line."""
    lines = [part for sentence in sentences for part in wrap(sentence, _WIDTH - 3)]
    return [f"  {'' if i else name:<13} {line}" for i, line in enumerate(lines)]


def _trust(evidence: Evidence) -> str:
    window = evidence.snapshot.window
    seconds = (window.end_ns - window.start_ns) / NS
    kept = len(evidence.future.events) if evidence.future else 0
    lost = f", {window.lost:,} lost" if window.lost else ""
    seen = f"{seconds:.1f} s, {kept:,} events recorded{lost}"
    if evidence.baseline is not None:
        return f"{seen}; replay reproduces the {evidence.baseline.pte_pages:,} PTE pages"
    if evidence.future is not None and evidence.future.missing:
        return f"{seen}; nothing is predicted, {evidence.future.missing}"
    if not kept:
        return f"{seen}; nothing is predicted"
    return (
        f"{seen}; nothing is predicted, because replay does not reproduce the PTE pages (lost "
        "events, exec, or changes without an event)"
    )


@reporter
def render_advice(evidence: Evidence, findings: list[Finding], *, detail: bool) -> str:
    """All findings.

    Args:
        evidence: the evidence for the findings.
        findings: the findings, ranked.
        detail: whether to show everything.
    """
    snapshot = evidence.snapshot
    process, now = snapshot.process, snapshot.now
    lines = [
        f"{process.comm} (pid {process.pid}): {now.pte_pages:,} PTE pages, "
        f"{size(now.pte_pages * snapshot.kernel.page_size)}; {now.empty:,} empty, "
        f"{share(now.empty, now.pte_pages)}",
        *origin_lines(process, snapshot.kernel),
        f"  window        {_trust(evidence)}",
        *compared_lines(snapshot.audit),
    ]
    if detail and process.allocator:
        options = (f"{k}:{v.value} ({v.source})" for k, v in process.allocator.options.items())
        lines += [f"  option        {option}" for option in options]
        lines += [f"  not known     {sentence}" for sentence in process.allocator.unknown]
    lines += _margin("note", snapshot.notes) + _margin("limits", limits(evidence))
    return "\n".join(lines + _findings(findings, detail=detail))


@reporter
def render_family_advice(advice: FamilyAdvice, *, detail: bool) -> str:
    """The findings for many processes of one name."""
    lines = [render_family(advice.family), *_margin("limits", advice.limits)]
    return "\n".join(lines + _findings(advice.findings, detail=detail))


def _findings(findings: list[Finding], *, detail: bool) -> list[str]:
    """All findings; --detail adds those that would save little."""
    lines: list[str] = []
    idle = not detail and findings[:1] and findings[0].rule in _LITTLE
    for number, finding in enumerate(findings[:1] if idle else findings, 1):
        lines += _finding(number, finding, detail=detail)
    if not findings:
        lines += ["", "No rule has anything to say about this."]
    elif idle and len(findings) > 1:
        lines += ["", f"--detail has {len(findings) - 1} more that would save little."]
    elif not detail:
        lines += ["", "--detail has the bases, all risks, how to verify, and sources."]
    return lines
