# SPDX-License-Identifier: GPL-2.0-only
"""Advice as text: short, and in detail."""

import json

from shadow.advice import advise
from shadow.report.advice import render_advice
from tests.shadow.advice.build import evidence, jemalloc, pieces, slots, with_now

_GIVEN = evidence(jemalloc(dirty_decay_ms=0), pieces(600), known=slots(whole=600))


def _render(*, detail: bool) -> str:
    return render_advice(_GIVEN, advise(_GIVEN), detail=detail)


def test_each_finding_fits_a_short_look() -> None:
    text = _render(detail=False)
    for block in text.split("\n\n")[1:-1]:
        assert len(block.splitlines()) <= 9, block
        assert all(len(line) <= 100 for line in block.splitlines())
        assert "     why     " in block
    assert "saves   330 to 600 PTE pages, 1.3 MiB to 2.3 MiB" in text
    assert "do      MALLOC_CONF=dirty_decay_ms:10000" in text
    assert "basis" not in text


def test_detail_has_bases_risks_and_sources() -> None:
    text = _render(detail=True)
    assert text.count("     basis   ") == sum(f.effect is not None for f in advise(_GIVEN))
    for part in ("verify", "source", "THE RACE"):
        assert part in text
    assert "  option        dirty_decay_ms:0 (MALLOC_CONF)" in text


def test_the_basis_of_predictions_is_shown() -> None:
    assert "replay reproduces the 600 PTE pages" in _render(detail=False)
    astray = with_now(_GIVEN, pte_pages=900)
    assert "nothing is predicted" in render_advice(astray, advise(astray), detail=False)


def test_findings_that_save_little_are_hidden_and_the_amount_is_stated() -> None:
    given = evidence(jemalloc(dirty_decay_ms=0), pieces(30), known=slots(whole=30))
    findings = advise(given)
    short = render_advice(given, findings, detail=False)
    assert "1. too little to matter: 120 KiB" in short
    assert "nothing to do" not in short
    assert "madvise" not in short
    assert f"--detail has {len(findings) - 1} more that would save little" in short
    assert "madvise" in render_advice(given, findings, detail=True)


def test_the_absence_of_findings_is_reported() -> None:
    given = with_now(evidence(), empty=300)
    assert "No rule has anything to say" in render_advice(given, [], detail=False)


def test_findings_are_json() -> None:
    plain = json.loads(json.dumps([finding.as_json() for finding in advise(_GIVEN)]))
    for finding in plain:
        assert {"rule", "title", "why", "numbers", "change", "effect"} <= finding.keys()
        assert {"risks", "verify", "source", "urgent", "slots"} <= finding.keys()
