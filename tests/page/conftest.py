# SPDX-License-Identifier: GPL-2.0-only
"""A browser, and pages made from traces; each test must leave the console empty."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shadow.report.page.data import PageProcess, Source
from shadow.report.page.render import report_page
from shadow.snapshot import document
from shadow.timeline import Timeline
from tests.shadow.trace.traces import END_NS, followed, write_trace
from tools.bench.large_trace import write_large_trace
from tracer.cli import main

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_FORCED = os.environ.get("PTESCOPE_LIVE") == "1"
_LARGE = 100_000, 400_000
Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A browser; without one, tests are skipped, or fail if PTESCOPE_LIVE=1.

    It has an event loop in this thread, which other modules could not run theirs beside.
    """
    missing = None
    if os.environ.get("PTESCOPE_NO_BROWSER"):
        pytest.skip("PTESCOPE_NO_BROWSER is set")
    if find_spec("playwright") is None:
        missing = "playwright is not installed; pip install 'ptescope[dev]'"
    else:
        from tools.chromium import CHROMIUM, chromium

        if not Path(CHROMIUM).exists():
            missing = "chromium is not installed; apt-get install chromium"
    if missing:
        if _FORCED:
            pytest.fail(f"PTESCOPE_LIVE=1 requires the tests of the page, but {missing}")
        pytest.skip(missing)
    with chromium() as started:
        yield started


@pytest.fixture
def open_page(browser: "Browser") -> Iterator[Open]:
    """Opens a page, whose console must stay empty and which may load nothing else."""
    from tools.chromium import ready

    said: list[str] = []
    contexts = []

    def open_(source: Path | str, **options: Any) -> "Page":
        url = source.as_uri() if isinstance(source, Path) else source
        origin = url if isinstance(source, Path) else "/".join(url.split("/")[:3])
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((origin, "data:"))
                else said.append(f"request: {request.url}")
            ),
        )
        return ready(page, url)

    yield open_
    for context in contexts:
        context.close()
    assert said == []


def _report(folder: Path, *traces: Path, status: int = 0) -> Path:
    """The page that `ptescope report` makes."""
    html = folder / "report.html"
    assert main(["report", *map(str, traces), "-o", str(html)]) == status
    return html


@pytest.fixture(scope="session")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trace with every kind of record."""
    path = tmp_path_factory.mktemp("small") / "small.arrows"
    write_trace(path)
    return path


@pytest.fixture(scope="session")
def small(trace: Path) -> Path:
    """The page of a small trace."""
    return _report(trace.parent, trace)


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a trace with several processes, and of another trace."""
    folder = tmp_path_factory.mktemp("family")
    write_trace(folder / "two.arrows", pids=(8, 9))
    write_trace(folder / "one.arrows")
    return _report(folder, folder / "one.arrows", folder / "two.arrows")


@pytest.fixture(scope="session")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a trace whose end is missing."""
    folder = tmp_path_factory.mktemp("torn")
    write_trace(folder / "torn.arrows")
    whole = (folder / "torn.arrows").read_bytes()
    (folder / "torn.arrows").write_bytes(whole[:-700])
    return _report(folder, folder / "torn.arrows", status=5)


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a trace that was imported from a recording of perf."""
    folder = tmp_path_factory.mktemp("imported")
    recording = Path(__file__).parents[1] / "shadow/perf_import/golden/perf-script.txt"
    assert main(["import", str(recording), "-o", str(folder / "imported.arrows")]) == 0
    return _report(folder, folder / "imported.arrows")


@pytest.fixture(scope="session")
def busy_trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace of a process that empties many of its PTE pages."""
    path = tmp_path_factory.mktemp("busy") / "busy.arrows"
    write_large_trace(path, 1000, 100_000)
    return path


@pytest.fixture(scope="session")
def busy(busy_trace: Path) -> Path:
    """The page of a process that empties many of its PTE pages."""
    return _report(busy_trace.parent, busy_trace)


@pytest.fixture(scope="session")
def large_trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace of a process with 100,000 slots."""
    path = tmp_path_factory.mktemp("large") / "large.arrows"
    write_large_trace(path, *_LARGE)
    return path


@pytest.fixture(scope="session")
def large(large_trace: Path) -> Path:
    """The page of a process with 100,000 slots."""
    return _report(large_trace.parent, large_trace)


@pytest.fixture
def page_with(tmp_path: Path) -> Callable[..., Path]:
    """Makes the page of a small process, with other data than a trace gives."""

    def make(stacks: dict[str, Any] | None = None, **more: Any) -> Path:
        engine, timeline = followed(), Timeline()
        timeline.end(engine, END_NS)
        process = replace(PageProcess.of_timeline(timeline), stacks=stacks)
        plain = document([engine.snapshot(END_NS)])
        plain["processes"][0] |= more
        html = tmp_path / "made.html"
        sources = [Source("a test")]
        html.write_text(report_page(plain, [process], sources, version="1", made="now"))
        return html

    return make
