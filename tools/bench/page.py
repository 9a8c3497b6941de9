# SPDX-License-Identifier: GPL-2.0-only
"""The cost of the HTML page of a large process: python -m tools.bench.page [SLOTS] [EVENTS].

It makes the page of a synthetic trace, opens it in Chromium, and measures how long the page takes
to open, and the map and the charts to answer. An answer includes the frame in which it is drawn.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page

from shadow.precompile import prepare
from tools.bench.large_trace import write_large_trace
from tools.chromium import chromium, ready

_ROUNDS = 5
_OPEN = """() => {
  const [entry] = performance.getEntriesByType("navigation");
  return performance.getEntriesByName("shown")[0].startTime - entry.startTime;
}"""
_ACTION = """async () => {
  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
  await frame();
  const begin = performance.now();
  ACTION;
  await frame();
  await frame();
  return performance.now() - begin;
}"""
_KEY = "document.querySelector('.map-frame').dispatchEvent(new KeyboardEvent('keydown', {key}))"
_ACTIONS = {
    "map: next slot": _KEY.replace("{key}", "{key: 'ArrowDown'}"),
    "map: next empty slot": _KEY.replace("{key}", "{key: 'e'}"),
    "map: larger cells": _KEY.replace("{key}", "{key: '+'}"),
    "map: smaller cells": _KEY.replace("{key}", "{key: '-'}"),
    "map: scroll": "document.querySelector('.map-frame').scrollTop += 300",
    "another moment": "document.querySelector('[aria-label=earlier]').click()",
    "charts: show the whole time": "document.querySelector('.charts > button').click()",
}


_WATCH = """() => {
  document.querySelector(".u-over").scrollIntoView({ block: "center" });
  document.addEventListener("mouseup", () => {
    const begin = performance.now();
    requestAnimationFrame(() => requestAnimationFrame(() => {
      document.body.dataset.took = performance.now() - begin;
    }));
  }, { once: true, capture: true });
}"""


def _zoom(page: Page) -> float:
    """Zoom into a chart with the mouse; returns the ms from its release to the end of a frame."""
    page.evaluate(_WATCH)
    box = page.locator(".u-over").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 40, steps=4)
    page.mouse.up()
    body = page.locator("body[data-took]")
    return float(body.get_attribute("data-took") or "nan")


def main() -> None:
    """Measure and print."""
    slots = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    events = int(sys.argv[2]) if len(sys.argv) > 2 else 4_000_000
    prepare()
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        trace, html = Path(folder) / "large.arrows", Path(folder) / "large.html"
        write_large_trace(trace, slots, events)
        command = [str(Path(sys.executable).parent / "ptescope"), "report", str(trace)]
        begin = time.perf_counter()
        subprocess.run([*command, "-o", str(html)], check=True, capture_output=True)
        made = time.perf_counter() - begin
        print(f"{slots:,} slots, {events:,} events")
        print(f"  {'made in':32} {made:8.1f} s")
        print(f"  {'size':32} {html.stat().st_size / 1e6:8.2f} MB")
        opened = []
        for _ in range(_ROUNDS):
            page = ready(browser.new_page(viewport={"width": 1280, "height": 900}), html.as_uri())
            opened.append(float(page.evaluate(_OPEN)))
            if len(opened) < _ROUNDS:
                page.close()
        print(f"  {'opened in':32} {statistics.median(opened):8.0f} ms")
        took = {"charts: zoom": [_zoom(page)]}
        for name, action in _ACTIONS.items():
            took[name] = [
                float(page.evaluate(_ACTION.replace("ACTION", action))) for _ in range(_ROUNDS)
            ]
        for name, each in took.items():
            print(f"  {name:32} {statistics.median(each):8.0f} ms, at most {max(each):.0f}")


if __name__ == "__main__":
    main()
