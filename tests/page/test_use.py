# SPDX-License-Identifier: GPL-2.0-only
"""The page in use: hover, keyboard, zoom, themes, sizes, paper."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ptescope
from tests.page.conftest import Open
from tests.page.read import document_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

_SLOT = 2 << 20
_LEAST_OF_MAP = 200
"""Bytes of the map in a PDF."""


def _tip(page: "Page") -> dict[str, str]:
    """The lines about the selected cell."""
    pairs: dict[str, str] = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("#tip dt")]
        .map((name) => [name.textContent, name.nextSibling.textContent]))"""
    )
    return pairs


def test_the_keyboard_visits_each_empty_slot_and_its_origin(
    small: Path, trace: Path, open_page: Open
) -> None:
    page = open_page(small)
    (snapshot,) = ptescope.replay(trace)
    assert snapshot.pages
    assert snapshot.pages.origins
    rows = {row["slot"]: row for row in snapshot.to_arrow().to_pylist()}
    page.focus(".map-frame")
    for slot in snapshot.empty_slots or []:
        page.keyboard.press("e")
        tip = _tip(page)
        assert int(tip["Address"].split(",")[0], 16) == slot
        assert tip["Entries"].startswith("0 of 512")
        made, emptied = rows[slot]["made_call"], rows[slot]["emptied_call"]
        assert tip["Made"].startswith(made)
        assert tip["Emptied"].startswith(emptied)
        if rows[slot]["emptied_by"]:
            assert f"by {rows[slot]['emptied_by']}" in tip["Emptied"]


def test_arrow_keys_move_from_slot_to_slot(small: Path, open_page: Open) -> None:
    page = open_page(small)
    page.focus(".map-frame")
    seen = []
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
        seen.append(int(_tip(page)["Address"].split(",")[0], 16))
    first, second, third, back, last, *_ = seen
    assert first < second < third < last
    assert back == second
    assert all(address % _SLOT == 0 for address in seen)
    page.keyboard.press("Escape")
    assert page.is_hidden("#tip")


def test_hover_names_the_slot_under_the_pointer(small: Path, open_page: Open) -> None:
    page = open_page(small)
    page.focus(".map-frame")
    page.keyboard.press("e")
    by_key = _tip(page)
    page.keyboard.press("Escape")
    page.locator(".map-frame").scroll_into_view_if_needed()
    box = page.locator(".map-frame").bounding_box()
    assert box
    found = []
    for y in range(4, int(min(box["height"], 200)), 6):
        for x in range(100, int(box["width"]) - 250, 5):
            page.mouse.move(box["x"] + x, box["y"] + y)
            if page.is_visible("#tip"):
                found.append(_tip(page))
            if by_key in found:
                break
        if by_key in found:
            break
    assert by_key in found
    page.mouse.move(2, 2)
    assert page.is_hidden("#tip")


def _ranges(page: "Page") -> list[str]:
    """The last labels of the time axes: those of the two charts are equal."""
    return [page.locator(".chart canvas").nth(at).evaluate("c => c.toDataURL()") for at in (0, 1)]


def test_a_drag_zooms_both_charts_and_a_button_goes_back(large: Path, open_page: Open) -> None:
    page = open_page(large)
    back = page.get_by_role("button", name="Show the whole time")
    assert back.is_hidden()
    before = _ranges(page)
    over = page.locator(".u-over").first
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    assert box
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 50, steps=5)
    page.mouse.up()
    back.wait_for(state="visible")
    zoomed = _ranges(page)
    assert zoomed[0] != before[0]
    assert zoomed[1] != before[1]
    back.click()
    back.wait_for(state="hidden")


def test_a_click_into_a_chart_chooses_the_moment(large: Path, open_page: Open) -> None:
    page = open_page(large)
    assert page.inner_text("output[for=moment]").startswith("the end")
    over = page.locator(".u-over").first
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    assert box
    page.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 50)
    text = page.inner_text("output[for=moment]")
    assert 50 < float(text.split(" s")[0]) < 70
    page.keyboard.press("Tab")
    page.focus("#moment")
    page.keyboard.press("End")
    assert page.inner_text("output[for=moment]").startswith("the end")


def test_the_map_zooms_by_key_and_button(large: Path, open_page: Open) -> None:
    page = open_page(large)
    text = page.locator(".map .controls .small")
    before = text.inner_text()
    page.focus(".map-frame")
    page.keyboard.press("+")
    larger = text.inner_text()
    assert int(larger.split()[0]) < int(before.split()[0].replace(",", ""))
    page.get_by_role("button", name="smaller cells").click()
    assert text.inner_text() == before


def _colours(page: "Page") -> tuple[str, list[int]]:
    """The colour of the page, and that of a pixel of the map."""
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    pixel = page.evaluate(
        """async () => { await new Promise((done) => requestAnimationFrame(() =>
        requestAnimationFrame(done)));
        const canvas = document.querySelector(".map-frame canvas");
        const copy = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
        copy.drawImage(canvas, 1 - canvas.width, 0);
        return [...copy.getImageData(0, 1, 1, 1).data]; }"""
    )
    return ground, pixel


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_and_drawings_follow_the_theme(scheme: str, small: Path, open_page: Open) -> None:
    page = open_page(small, color_scheme=scheme)
    ground, pixel = _colours(page)
    assert ground == f"rgb({pixel[0]}, {pixel[1]}, {pixel[2]})"
    assert (sum(pixel[:3]) > 384) == (scheme == "light")
    page.select_option("#theme", "dark" if scheme == "light" else "light")
    other, drawn = _colours(page)
    assert other != ground
    assert other == f"rgb({drawn[0]}, {drawn[1]}, {drawn[2]})"


@pytest.mark.parametrize("width", [320, 400, 768, 1200, 2400])
@pytest.mark.parametrize("name", ["small", "family", "large"])
def test_nothing_is_wider_than_the_window(
    width: int, name: str, open_page: Open, request: pytest.FixtureRequest
) -> None:
    page = open_page(request.getfixturevalue(name), viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelector('.map-frame canvas').clientWidth") <= width


def test_it_prints(small: Path, open_page: Open) -> None:
    page = open_page(small, color_scheme="dark")
    with_map = page.pdf()
    assert with_map.startswith(b"%PDF")
    # Chromium prints a canvas as an image or as drawing, so only the size shows the map.
    page.evaluate("document.querySelectorAll('.map-frame canvas').forEach(each => each.remove())")
    without = page.pdf()
    assert len(with_map) > len(without) + _LEAST_OF_MAP, "the map is missing"
    assert page.evaluate("document.documentElement.dataset.theme") is None
    page.emulate_media(media="print")
    assert page.is_hidden("#theme")
    assert page.is_visible("h1")


def test_a_copied_text_is_that_of_the_advice(large: Path, open_page: Open) -> None:
    page = open_page(large, permissions=["clipboard-read", "clipboard-write"])
    (process,) = document_of(page)["processes"]
    texts = ["\n".join(each["change"]["how"]) for each in process["advice"] if each["change"]]
    shown = [text for text in texts if text]
    assert shown
    assert page.locator(".copyable pre").all_inner_texts() == shown
    button = page.locator(".copyable button").first
    button.click()
    page.locator(".copyable button:not(:text-is('Copy'))").first.wait_for()
    if button.inner_text() == "Copied":
        assert page.evaluate("navigator.clipboard.readText()") == shown[0]
    else:
        assert page.evaluate("getSelection().toString()") == shown[0]


def _tree() -> dict[str, Any]:
    return {
        "name": "all",
        "value": 10,
        "children": [
            {"name": "main", "value": 9, "children": [
                {"name": "flush<b>", "value": 6, "children": []},
                {"name": "cron", "value": 3, "children": []},
            ]},
            {"name": "other", "value": 1, "children": []},
        ],
    }  # fmt: skip


def test_stacks_are_a_flame_graph(page_with: Callable[..., Path], open_page: Open) -> None:
    page = open_page(page_with(stacks=_tree()))
    frames = page.locator(".flame .frame")
    assert frames.all_inner_texts() == ["all", "main", "other", "flush<b>", "cron"]
    widths = {
        text: frames.nth(at).bounding_box()["width"]  # type: ignore[index]
        for at, text in enumerate(frames.all_inner_texts())
    }
    assert widths["flush<b>"] == pytest.approx(0.6 * widths["all"], abs=2)
    assert widths["other"] == pytest.approx(0.1 * widths["all"], abs=2)
    frames.nth(1).click()
    assert "main: 9 of 10 PTE pages" in page.inner_text("#stacks p.small")
    assert "other" not in frames.all_inner_texts()


def test_without_stacks_there_is_no_flame_graph(small: Path, open_page: Open) -> None:
    assert open_page(small).locator("#stacks").count() == 0
