# SPDX-License-Identifier: GPL-2.0-only
"""What pages of different sources say: hostile, damaged, imported, of several processes."""

import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from shadow.records import Facts
from shadow.remedy import Remedy
from shadow.trace import TraceFile
from tests.page.conftest import Open, _report
from tests.page.read import document_of, figures
from tests.shadow.hostile import HOSTILE, is_harmless, poisoned
from tests.shadow.trace.traces import facts, records, write_trace

_MARKUP = "</script><script>alert(1)</script><img src=x onerror=alert(2)><b>own</b>\"'&lt;{{7*7}}"

_NAME = "</script><img src=x onerror=alert(3)>"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """The page of a trace whose texts are markup and escapes."""
    folder = tmp_path / "<b>own<b>"
    folder.mkdir()
    file = TraceFile(folder / "t.arrows")
    for record in records():
        if isinstance(record, Facts):
            record = poisoned(record)
            process = replace(record.process, comm=_NAME)
            notes = (_MARKUP, HOSTILE + "own")
            record = replace(record, process=process, host=_MARKUP, notes=notes)
        file.write(1, 7, record)
    file.end()
    file.close()
    return _report(folder, folder / "t.arrows")


def test_hostile_names_are_text(hostile: Path, small: Path, open_page: Open) -> None:
    page = open_page(hostile)
    assert document_of(page)["processes"][0]["process"]["comm"] == _NAME
    text = page.inner_text("body")
    assert is_harmless(text.replace("\t", " "))
    assert _NAME in page.inner_text("h1")
    assert _MARKUP in text
    assert "{{7*7}}" in text
    assert "\\x1b]0;own" in text
    assert is_harmless(page.title())
    count = "[document.scripts.length, document.querySelectorAll('img, b, iframe').length]"
    assert page.evaluate(count) == open_page(small).evaluate(count)
    page.focus(".map-frame")
    page.keyboard.press("e")
    assert is_harmless(page.inner_text("#tip"))


def test_hostile_stacks_are_text(page_with: Callable[..., Path], open_page: Open) -> None:
    page = open_page(page_with(stacks={"name": _MARKUP + HOSTILE, "value": 3, "children": []}))
    assert is_harmless(page.inner_text("#stacks"))
    assert "<b>own</b>" in page.inner_text("#stacks .frame")


def test_a_torn_trace_says_what_it_lacks(torn: Path, open_page: Open) -> None:
    page = open_page(torn)
    said = page.inner_text("#lacks")
    assert "The source is incomplete" in said
    assert "is damaged at byte" in said
    assert "torn.arrows" in page.inner_text("#provenance")


def test_an_imported_trace_says_what_it_lacks(imported: Path, open_page: Open) -> None:
    page = open_page(imported)
    said = page.inner_text("#lacks")
    assert "earlier page tables and VMAs are unknown" in said
    assert "Nothing was compared with the real page tables" in said
    assert figures(page)["now.pte_pages"]


def test_several_processes_have_an_overview_and_a_view_each(family: Path, open_page: Open) -> None:
    page = open_page(family)
    processes = document_of(page)["processes"]
    assert len(processes) == 3
    lead = page.inner_text("#overview .lead")
    empty = sum(process["now"]["empty"] for process in processes)
    assert lead.startswith("3 processes waste ")
    assert f" {empty} of their " in lead
    for at, process in enumerate(processes):
        for path in ("pte_pages", "empty"):
            cell = page.locator(f'[data-process="{at}"][data-figure="now.{path}"]')
            assert cell.inner_text() == str(process["now"][path])
        page.click(f'#overview a[href="#process-{at}"]')
        page.wait_for_selector(f'#overview a[href="#process-{at}"][aria-current]')
        provenance = page.inner_text("#provenance")
        assert f"pid {process['process']['pid']}" in provenance
        assert ("two.arrows" if at else "one.arrows") in provenance


def test_it_says_how_its_figures_were_obtained(small: Path, open_page: Open) -> None:
    page = open_page(small)
    text = page.inner_text("#provenance")
    for part in ("read all page tables", "there", "6.18.0", "pt_reclaim", "jemalloc", "A note."):
        assert part in text
    assert figures(page)["audit.runs"] == ["1"]


def test_a_trace_that_cannot_be_read_is_named(tmp_path: Path, open_page: Open) -> None:
    write_trace(tmp_path / "good.arrows")
    (tmp_path / "bad.arrows").write_text("no trace")
    page = open_page(_report(tmp_path, tmp_path / "bad.arrows", tmp_path / "good.arrows", status=5))
    said = page.inner_text("main > .lack")
    assert "bad.arrows is not a ptescope trace" in said
    assert figures(page)["now.pte_pages"]


def test_it_shows_the_counters_of_the_remedy(
    page_with: Callable[..., Path], open_page: Open
) -> None:
    remedy = Remedy("dry_run", 4, 1000, 2000, 30, 20, 5, 3, 2)
    page = open_page(page_with(process=asdict(replace(facts().process, remedy=remedy))))
    shown = figures(page)
    for name, value in asdict(remedy).items():
        if name != "state":
            assert shown[f"process.remedy.{name}"] == [f"{value:,}"]
    assert "dry run: arenas 4" in page.inner_text("#provenance")


@pytest.fixture
def strict_server(small: Path) -> Iterator[str]:
    """Serves the page under a strict policy, as a careful administrator would."""
    body = small.read_bytes()
    policy = small.read_text().split('http-equiv="Content-Security-Policy" content="')[1]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header(
                "Content-Security-Policy",
                policy.split('"')[0].replace("&#39;", "'") + "; frame-ancestors 'none'; sandbox "
                "allow-scripts",
            )
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def test_it_works_under_a_strict_policy(strict_server: str, open_page: Open) -> None:
    page = open_page(strict_server)
    assert page.is_visible("h1")
    assert page.locator(".chart canvas").count() == 2


def test_its_own_policy_allows_no_other_script(small: Path, browser: Any, tmp_path: Path) -> None:
    from tools.chromium import ready

    altered = tmp_path / "altered.html"
    text = small.read_text()
    altered.write_text(text.replace("</main>", "</main><script>document.title = 'own'</script>"))
    assert altered.read_text() != text
    with browser.new_context() as context:
        page, said = context.new_page(), list[str]()
        page.on("console", lambda message: said.append(message.text))
        ready(page, altered.as_uri())
        assert page.title().startswith("server")
        assert any("Content Security Policy" in message for message in said)
