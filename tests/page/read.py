# SPDX-License-Identifier: GPL-2.0-only
"""Reads figures off a page, and finds them in the JSON document."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ("agrees", "document_of", "figures", "value_at")


def document_of(page: "Page") -> dict[str, Any]:
    """The JSON document inside the page."""
    script = "JSON.parse(document.getElementById('document').textContent)"
    plain: dict[str, Any] = page.evaluate(script)
    return plain


def figures(page: "Page", within: str = ".process") -> dict[str, list[str]]:
    """The texts of all figures of one process, by their path in the document."""
    pairs: list[list[str]] = page.evaluate(
        """(within) => [...document.querySelectorAll(`${within} [data-figure]`)]
        .map((each) => [each.dataset.figure, each.textContent])""",
        within,
    )
    found: dict[str, list[str]] = {}
    for path, text in pairs:
        found.setdefault(path, []).append(text)
    return found


def value_at(process: dict[str, Any], path: str) -> float:
    """The number at a path; that of `window.events` is the sum."""
    value: Any = process
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return float(sum(value.values()) if isinstance(value, dict) else value)


def agrees(text: str, value: float) -> bool:
    """Whether a text shows this number; tables that mappings share have one digit."""
    if text == "<0.1":
        return 0 < value < 0.05
    return abs(float(text.replace(",", "")) - value) <= (0 if value == int(value) else 0.0501)
