# SPDX-License-Identifier: GPL-2.0-only
"""The live pages, served for a synthetic host."""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from shadow.errors import PtescopeError
from shadow.host_view import HostView
from shadow.take_cells import cells_of
from tests.page.conftest import Open
from tests.page.read import agrees, figures, value_at
from tests.shadow.hosts import host_view
from tests.shadow.trace.traces import END_NS, followed
from tracer.daemon.server import MetricsServer

_PID = 1000


@dataclass
class _Host:
    """A host whose first process can be followed, and that can change or fail."""

    notes: list[str] = field(default_factory=list)
    failing: bool = False
    looks: list[int | None] = field(default_factory=list)

    def look(self, pid: int | None = None) -> HostView:
        self.looks.append(pid)
        if self.failing:
            raise PtescopeError("the host is not watched")
        view, engine = host_view(), followed(_PID)
        first = replace(view.processes[0], snapshot=engine.snapshot(END_NS + len(self.looks)))
        cells = cells_of(engine) if pid == _PID else None
        return replace(
            view,
            time_ns=view.time_ns + len(self.looks) * 1_000_000_000,
            processes=[first, *view.processes[1:]],
            notes=self.notes,
            slots_of=pid,
            cells=cells,
        )


@pytest.fixture
def host() -> _Host:
    return _Host()


@pytest.fixture
def address(host: _Host) -> Iterator[str]:
    server = MetricsServer(host.look, "127.0.0.1", 0, top=5, look=host.look)
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


def _json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


def test_the_host_shows_its_processes_by_what_they_waste(address: str, open_page: Open) -> None:
    page = open_page(f"{address}/")
    data = _json(f"{address}/host.json")
    rows = {row["pid"]: row for row in data["processes"]}
    cells = page.locator('[data-row="empty"]')
    shown = [int(each.get_attribute("data-pid") or 0) for each in cells.all()]
    assert shown == sorted(shown, key=lambda pid: -rows[pid]["empty"])
    for pid, text in zip(shown, cells.all_inner_texts(), strict=True):
        assert text == str(rows[pid]["empty"])
    assert f"{data['empty']} empty PTE pages" in page.inner_text("h1")
    assert f"{data['cost']['events']:,}, {data['cost']['lost']} lost" in page.inner_text("#cost")
    page.select_option("#order", "growth")
    growth = [rows[int(each.get_attribute("data-pid") or 0)] for each in cells.all()]
    rates = [row["pte_pages_per_second"] for row in growth]
    assert rates == sorted(rates, reverse=True)


def test_a_process_has_the_page_of_a_report(address: str, open_page: Open) -> None:
    page = open_page(f"{address}/")
    page.click(f'a[href="/process/{_PID}"]')
    page.wait_for_selector(".process")
    process = _json(f"{address}/process/{_PID}.json")["document"]["processes"][0]
    for path, texts in figures(page).items():
        for text in texts:
            assert agrees(text, value_at(process, path)), (path, text)
    page.focus(".map-frame")
    page.keyboard.press("e")
    assert "EMPTY" in page.inner_text("#tip")


def test_it_updates_itself_and_keeps_the_selection(
    address: str, host: _Host, open_page: Open
) -> None:
    page = open_page(f"{address}/process/{_PID}")
    page.focus(".map-frame")
    page.keyboard.press("e")
    before = page.inner_text("#tip")
    looks = len(host.looks)
    status = page.locator("#status")
    first = status.inner_text()
    page.locator(f"#status:not(:text-is('{first}'))").wait_for()
    page.locator("#status:has-text('live')").wait_for()
    assert len(host.looks) > looks
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#tip") == before


def test_a_process_that_is_only_counted_says_so(address: str, open_page: Open) -> None:
    page = open_page(f"{address}/process/1005")
    assert "ptescope only counts this process" in page.inner_text("main")


def test_data_that_stop_are_marked_as_stale(address: str, host: _Host, browser: Any) -> None:
    from tools.chromium import ready

    with browser.new_context() as context:
        page = ready(context.new_page(), f"{address}/")
        assert page.is_visible("h1")
        host.failing = True
        page.locator("#status.stale").wait_for()
        assert "the host is not watched" in page.inner_text("#status")
        assert page.is_visible("h1")
        host.failing = False
        page.locator("#status:not(.stale)").wait_for()


def test_hostile_names_of_the_host_are_text(address: str, host: _Host, open_page: Open) -> None:
    host.notes = ["<img src=x onerror=alert(1)>\u202e"]
    page = open_page(f"{address}/")
    assert "<img src=x onerror=alert(1)>\\u202e" in page.inner_text("main")
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("width", [360, 1200])
def test_the_host_fits_the_window(width: int, address: str, open_page: Open) -> None:
    page = open_page(f"{address}/", viewport={"width": width, "height": 700}, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_nobody_looks_so_nothing_is_read(address: str, host: _Host, browser: Any) -> None:
    from tools.chromium import ready

    assert host.looks == []
    with browser.new_context() as context:
        page = ready(context.new_page(), f"{address}/")
        assert host.looks
        page.goto("about:blank")
        page.wait_for_timeout(1000)
        looks = len(host.looks)
        page.wait_for_timeout(4000)
        assert len(host.looks) == looks
