# SPDX-License-Identifier: GPL-2.0-only
"""Each figure on the page equals the JSON's, at the end and at every other moment."""

import json
from pathlib import Path

import pytest

import ptescope
from shadow.report.format import size
from tests.page.conftest import Open
from tests.page.read import agrees, document_of, figures, value_at
from tracer.cli import main

_BANDS = ((0, 0), (1, 1), (2, 7), (8, 31), (32, 127), (128, 383), (384, 511), (512, 512))


def test_the_document_is_the_one_that_json_prints(
    small: Path, trace: Path, open_page: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["advise", "--json", str(trace)]) == 0
    assert document_of(open_page(small)) == json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["small", "torn", "imported", "large", "family"])
def test_each_figure_equals_the_documents(
    name: str, open_page: Open, request: pytest.FixtureRequest
) -> None:
    page = open_page(request.getfixturevalue(name))
    processes = document_of(page)["processes"]
    chosen = max(range(len(processes)), key=lambda at: processes[at]["now"]["empty"])
    found = figures(page)
    assert {"now.pte_pages", "window.lost", "policies.none.mean", "audit.runs"} <= found.keys() | (
        {"audit.runs"} if not processes[chosen]["audit"]["runs"] else set()
    )
    for path, texts in found.items():
        for text in texts:
            assert agrees(text, value_at(processes[chosen], path)), (path, text)


def test_the_sentence_and_the_histogram_show_the_end(small: Path, open_page: Open) -> None:
    page = open_page(small)
    (process,) = document_of(page)["processes"]
    now = process["now"]
    assert now["empty"]
    heading = page.inner_text("h1")
    assert f"{now['empty']} of its {now['pte_pages']} PTE pages" in heading
    assert size(now["empty"] * 4096) in heading
    for low, high in _BANDS:
        shown = page.inner_text(f'[data-band="{low}-{high}"]')
        assert int(shown) == sum(now["occupancy"][low : high + 1])


def test_the_map_and_the_charts_show_the_counts_of_each_policy(
    small: Path, open_page: Open
) -> None:
    page = open_page(small)
    (process,) = document_of(page)["processes"]
    for at, (label, outcome) in enumerate(process["policies"].items()):
        page.select_option(".map select", str(at))
        shown = [page.inner_text(f'[data-map="{name}"]') for name in ("pages", "empty")]
        assert shown == [str(outcome["pte_pages"]), str(outcome["empty"])], label
        for chart, name in enumerate(("pte_pages", "empty")):
            legend = page.locator(".chart").nth(chart).locator(".u-value")
            assert legend.nth(at + 1).inner_text() == str(outcome[name]), (label, name)


def test_every_moment_shows_what_a_replay_up_to_it_gives(
    busy: Path, busy_trace: Path, open_page: Open
) -> None:
    """The moment that is chosen drives everything below."""
    page = open_page(busy)
    moments = page.evaluate("Number(document.getElementById('moment').max)") + 1
    assert moments > 10
    for moment in (moments // 3, moments - 2):
        page.evaluate(
            """(moment) => { const slider = document.getElementById("moment");
            slider.value = moment; slider.dispatchEvent(new Event("input")); }""",
            moment,
        )
        text = page.inner_text("output[for=moment]")
        seconds = float(text.split(" s")[0])
        (snapshot,) = ptescope.replay(busy_trace, at=_exact(page.evaluate(_SECONDS, moment)))
        assert abs(seconds - (snapshot.window.end_ns - snapshot.window.start_ns) / 1e9) < 0.06
        for low, high in _BANDS:
            shown = page.inner_text(f'[data-band="{low}-{high}"]').replace(",", "")
            assert int(shown) == sum(snapshot.now.occupancy[low : high + 1])
        assert page.inner_text('[data-map="empty"]') == f"{snapshot.now.empty:,}"
        for name in ("pte_pages", "empty"):
            (shown,) = figures(page)[f"policies.pte_ref.{name}"]
            assert shown == f"{getattr(snapshot.policies['pte_ref'], name):,}"
        assert snapshot.origins
        assert snapshot.origins.emptied
        emptied = figures(page, "#origins")["origins.emptied.0.pte_pages"]
        assert emptied == [f"{snapshot.origins.emptied[0].pte_pages:,}"]


_SECONDS = """async (moment) => {
  const { processes } = JSON.parse(document.getElementById("more").textContent);
  const packed = Uint8Array.from(atob(processes[0].moments), (each) => each.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return (await new Response(stream).json())[moment].seconds;
}"""


def _exact(seconds: float) -> float:
    return round(seconds * 1e9) / 1e9
