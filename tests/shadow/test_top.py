# SPDX-License-Identifier: GPL-2.0-only
"""The screens of `top`, at several sizes, compared with stored screens.

PTESCOPE_UPDATE=1 writes the stored screens again; review them afterwards.
"""

import asyncio
import html
import itertools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot

from shadow.errors import PtescopeError
from shadow.geometry import X86_64
from shadow.host_view import HostView
from shadow.report.top import TopApp
from shadow.report.top.detail import slot_map, sparkline
from tests.shadow.build import BASE
from tests.shadow.hostile import is_harmless, poisoned
from tests.shadow.hosts import host_view
from tests.x86_64 import SLOT

_SCREENS = Path(__file__).with_name("screens")
_TEXT = re.compile(r'<text class="\S*-r\d+" [^>]*?x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>')


def _view(pid: int | None) -> HostView:
    slots = {BASE + i * SLOT: 0 if i % 4 == 0 else i * 37 % 513 for i in range(90) if i % 50}
    return replace(host_view(), slots=slots if pid else {}, slots_of=pid)


def _lines(svg: str) -> list[str]:
    """The text of a screenshot."""
    rows: dict[float, list[tuple[float, str]]] = {}
    for x, y, text in _TEXT.findall(svg.partition("-matrix")[2]):
        rows.setdefault(float(y), []).append((float(x), html.unescape(text).replace("\xa0", " ")))
    return [
        "".join(text for _, text in sorted(parts)).rstrip() for _, parts in sorted(rows.items())
    ]


async def _settled(app: TopApp, pilot: Pilot[None]) -> list[str]:
    """The screen once it no longer changes: on a busy host, the layout takes a moment."""
    before: list[str] = []
    while (now := _lines(app.export_screenshot())) != before:
        before = now
        await pilot.pause(0.2)
    return now


async def _screen(size: tuple[int, int], keys: Sequence[str]) -> tuple[TopApp, list[str]]:
    app = TopApp(_view, every=3600.0)
    async with app.run_test(size=size) as pilot:
        await app.workers.wait_for_complete()
        for key in keys:
            await pilot.press(key)
            await app.workers.wait_for_complete()
        await pilot.pause()
        return app, await _settled(app, pilot)


def _pressed(*keys: str, size: tuple[int, int] = (120, 24)) -> list[str]:
    return asyncio.run(_screen(size, keys))[1]


def _names(lines: list[str]) -> list[str]:
    return [name for line in lines for name in re.findall(r"server-\d(?!\.)", line[:30])]


@pytest.mark.parametrize(
    ("name", "size", "keys"),
    [
        ("table-80x24", (80, 24), []),
        ("table-160x40", (160, 40), []),
        ("process-80x40", (80, 40), ["enter"]),
        ("process-140x50", (140, 50), ["enter"]),
        ("counted-80x24", (80, 24), ["s", "down", "down", "down", "down", "enter"]),
    ],
)
def test_the_screen_equals_the_stored_one(
    name: str, size: tuple[int, int], keys: list[str]
) -> None:
    lines = _pressed(*keys, size=size)
    assert max(map(len, lines)) <= size[0]
    path = _SCREENS / f"{name}.txt"
    text = "\n".join(lines).rstrip() + "\n"
    if os.environ.get("PTESCOPE_UPDATE"):
        path.write_text(text)
    assert text == path.read_text()


def test_keys_sort() -> None:
    assert _names(_pressed("g")) == [f"server-{i}" for i in (0, 1, 4, 5, 2, 3)]
    assert _names(_pressed("g", "s")) == [f"server-{i}" for i in range(6)]
    assert _names(_pressed("v"))[:4] == [f"server-{i}" for i in range(4)]


def test_a_filter_is_a_name_a_cgroup_or_a_pid() -> None:
    assert _names(_pressed("slash", *"er-3", "enter")) == ["server-3"]
    assert _names(_pressed("slash", *"/system", "enter")) == ["server-1", "server-3", "server-5"]
    assert _names(_pressed("slash", *"1002", "enter")) == ["server-2"]


def test_a_paused_screen_keeps_what_it_shows() -> None:
    looks = itertools.count()

    def look(pid: int | None) -> HostView:
        return replace(_view(pid), hostname=f"look-{next(looks)}")

    async def run() -> tuple[list[str], list[str]]:
        app = TopApp(look, every=0.05)
        async with app.run_test(size=(100, 24)) as pilot:
            await pilot.pause(0.3)
            await pilot.press("p")
            before = _lines(app.export_screenshot())
            await pilot.pause(0.3)
            return before, _lines(app.export_screenshot())

    before, after = asyncio.run(run())
    assert any("PAUSED" in line for line in after)
    assert any("look-" in line for line in after)
    assert before == after


def test_slots_of_another_process_are_not_shown() -> None:
    def late(_: int | None) -> HostView:
        return _view(1003)  # the view of a process that was open before

    async def run(look: Callable[[int | None], HostView]) -> list[str]:
        app = TopApp(look, every=3600.0)
        async with app.run_test(size=(80, 40)) as pilot:
            await app.workers.wait_for_complete()
            await pilot.press("enter")
            await app.workers.wait_for_complete()
            await pilot.pause()
            return _lines(app.export_screenshot())

    assert any("0x001000200000" in line for line in asyncio.run(run(_view)))
    assert not any("0x001000200000" in line for line in asyncio.run(run(late)))


def test_a_reused_pid_does_not_show_as_the_opened_process() -> None:
    views = iter([_view(None), _view(None), _reused()])

    async def run() -> list[str]:
        app = TopApp(lambda _: next(views), every=3600.0)
        async with app.run_test(size=(80, 40)) as pilot:
            await app.workers.wait_for_complete()
            await pilot.press("enter")
            await app.workers.wait_for_complete()
            app._fetch()
            await app.workers.wait_for_complete()
            await pilot.pause()
            return _lines(app.export_screenshot())

    assert any("has ended" in line for line in asyncio.run(run()))


def _reused() -> HostView:
    view = _view(None)
    return replace(view, processes=[replace(p, start_time=9_999) for p in view.processes])


@pytest.mark.parametrize("keys", [[], ["p"]], ids=["running", "paused"])
@pytest.mark.parametrize("error", [PtescopeError("nobody watches"), KeyError(7)])
def test_top_ends_with_the_reason_when_its_watcher_fails(error: Exception, keys: list[str]) -> None:
    calls = itertools.count()

    def look(pid: int | None) -> HostView:
        if next(calls):
            raise error
        return _view(pid)

    async def run() -> TopApp:
        app = TopApp(look, every=0.2)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press(*keys)
            await pilot.pause(1.0)
        return app

    app = asyncio.run(run())
    assert app.return_code == 1
    assert app.problem is not None
    assert str(error) in str(app.problem)


def test_stale_data_is_marked() -> None:
    calls = itertools.count()

    def look(pid: int | None) -> HostView:
        if next(calls):
            raise TimeoutError("the host could not be looked at in 10 s")
        return _view(pid)

    async def run() -> list[str]:
        app = TopApp(look, every=0.05)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause(0.5)
            return _lines(app.export_screenshot())

    assert any("STALE: the host could not be looked at" in line for line in asyncio.run(run()))


def test_back_from_a_process_is_the_table() -> None:
    assert len(_names(_pressed("enter"))) == 1
    assert len(_names(_pressed("enter", "escape"))) == 6


def test_a_map_has_a_sign_for_each_pte_page_and_breaks_at_gaps() -> None:
    slots = {BASE: 0, BASE + SLOT: 512, BASE + 2 * SLOT: 1, BASE + 5 * SLOT: 0}
    assert slot_map(slots, 80, X86_64) == ["  0x001000000000  o@.", "  0x001000a00000  o"]
    assert [line.split()[1] for line in slot_map(slots, 2, X86_64)] == ["o@", ".", "o"]
    assert slot_map({}, 80, X86_64) == []


def test_a_sparkline_is_as_high_as_its_largest() -> None:
    assert sparkline([0.0, 5.0, 10.0]) == "▁▅█"
    assert sparkline([0.0, 0.0]) == "▁▁"


def test_names_with_markup_and_escapes_are_shown_as_they_are() -> None:
    """A name in brackets is not a style, and a name with invalid markup does not end the screen."""

    async def shown() -> list[str]:
        app = TopApp(lambda _: poisoned(host_view()), every=3600.0)
        async with app.run_test(size=(200, 40)) as pilot:
            await app.workers.wait_for_complete()
            await pilot.pause()
            lines = _lines(app.export_screenshot())
            await pilot.press("enter")
            await app.workers.wait_for_complete()
            await pilot.pause()
            return lines + _lines(app.export_screenshot())

    lines = asyncio.run(shown())
    assert is_harmless("\n".join(lines))
    assert any("server-0\\x1b]0;own\\x07\\x9b31m[red][/nope]" in line for line in lines)


def test_processes_of_one_name_are_shown_as_one() -> None:
    view = replace(host_view(), slots={}, slots_of=None)
    alike = [replace(p, comm="worker" if p.pid % 2 else "other") for p in view.processes]

    async def shown() -> list[str]:
        app = TopApp(lambda _: replace(view, processes=alike), every=3600.0)
        async with app.run_test(size=(160, 24)) as pilot:
            await app.workers.wait_for_complete()
            for key in ("n", "enter"):  # a sum is not opened
                await pilot.press(key)
                await app.workers.wait_for_complete()
            await pilot.pause()
            return _lines(app.export_screenshot())

    lines = asyncio.run(shown())
    rows = [line.split() for line in lines if " x " in line]
    assert [row[2] for row in rows] == ["other", "worker"]
    assert [row[0] for row in rows] == ["3", "3"]
    empty = sum(p.snapshot.now.empty for p in alike if p.snapshot and p.comm == "other")
    assert rows[0][5:7] == [str(4 * empty), "KiB"]
    assert "2 of 3" in " ".join(rows[0])
