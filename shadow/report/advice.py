"""Advice as text: each finding in a few lines, or with everything that is known of it."""

from shadow.advice import Evidence, Finding
from shadow.advice.finding import Effect
from shadow.report.parts import origin_lines, share, size

__all__ = ("render_advice",)

_NS = 1e9


def _saves(effect: Effect) -> str:
    if effect.least == effect.most:
        return f"{effect.most:,} PTE pages, {size(effect.most)}"
    if effect.least == 0:
        return f"at most {effect.most:,} PTE pages, {size(effect.most)}"
    return (
        f"{effect.least:,} to {effect.most:,} PTE pages, {size(effect.least)} to "
        f"{size(effect.most)}"
    )


def _finding(number: int, finding: Finding, *, detail: bool) -> list[str]:
    lines = ["", f"{number}. {finding.title}", f"     why     {finding.why}"]
    if finding.effect:
        lines.append(f"     saves   {_saves(finding.effect)}")
        if detail:
            lines.append(f"     basis   {finding.effect.basis}")
    if finding.change:
        what = [finding.change.what] if detail or not finding.change.how else []
        how = finding.change.how if detail else finding.change.how[:2]
        lines += [
            f"     {'do' if i == 0 else '':<7} {line}" for i, line in enumerate([*what, *how])
        ]
    risks = finding.risks if detail else finding.risks[:1]
    lines += [f"     {'costs' if i == 0 else '':<7} {risk}" for i, risk in enumerate(risks)]
    if detail and finding.verify:
        lines.append(f"     verify  {finding.verify}")
    if detail and finding.source:
        lines.append(f"     source  {finding.source}")
    return lines


def _trust(evidence: Evidence) -> str:
    window = evidence.snapshot.window
    seconds = (window.end_ns - window.start_ns) / _NS
    kept = len(evidence.future.events) if evidence.future else 0
    lost = f", {window.lost:,} lost" if window.lost else ""
    seen = f"{seconds:.1f} s, {kept:,} events kept{lost}"
    if evidence.baseline is not None:
        return f"{seen}; run again they lead to the {evidence.baseline.pte_pages:,} PTE pages"
    if evidence.future is not None and not evidence.future.complete:
        return f"{seen}, then no more: nothing is predicted (--keep takes more of them)"
    if not kept:
        return f"{seen}: nothing is predicted"
    return (
        f"{seen}; run again they do not lead to what there is (lost events, exec, or changes "
        "that no event tells): nothing is predicted"
    )


def render_advice(evidence: Evidence, findings: list[Finding], *, detail: bool) -> str:
    """All findings.

    Args:
        evidence: what they were found in.
        findings: ranked.
        detail: whether to show everything.
    """
    snapshot = evidence.snapshot
    process, now = snapshot.process, snapshot.now
    lines = [
        f"{process.comm} (pid {process.pid}): {now.pte_pages:,} PTE pages, "
        f"{size(now.pte_pages)}; {now.empty:,} empty, {share(now.empty, now.pte_pages)}",
        *origin_lines(process, snapshot.kernel),
        f"  window        {_trust(evidence)}",
    ]
    if detail and process.allocator:
        options = (f"{k}:{v.value} ({v.source})" for k, v in process.allocator.options.items())
        lines += [f"  option        {option}" for option in options]
        lines += [f"  not known     {sentence}" for sentence in process.allocator.unknown]
    for number, finding in enumerate(findings, 1):
        lines += _finding(number, finding, detail=detail)
    if not findings:
        lines += ["", "No rule has anything to say about this."]
    elif not detail:
        lines += ["", "--detail has the bases, all risks, how to verify, and sources."]
    return "\n".join(lines)
