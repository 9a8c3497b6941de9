# SPDX-License-Identifier: GPL-2.0-only
"""The page of a process of another architecture has the sizes of its page tables."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from shadow.geometry import ARM64, Geometry
from tests.page.conftest import Open, _report
from tests.page.read import document_of
from tests.shadow.trace.traces import write_trace

_OF_X86_64 = re.compile(r"\b(2\.0 MiB|2 MiB|4 KiB|1 GiB|512 entries|x86)\b")


@pytest.mark.parametrize("geometry", ARM64[2:], ids=lambda each: each.name)
def test_a_page_has_the_sizes_of_its_geometry(
    geometry: Geometry, tmp_path: Path, open_page: Open
) -> None:
    write_trace(tmp_path / "t.arrows", geometry=geometry)
    page = open_page(_report(tmp_path, tmp_path / "t.arrows"))
    assert document_of(page)["processes"][0]["kernel"]["page_size"] == geometry.page
    text = page.inner_text("body")
    assert f"A PTE page is a page of {geometry.page_text}" in text
    assert f"where {geometry.slot_text} of" in text
    assert f"A cell is a slot: {geometry.slot_text}" in text
    assert f"{geometry.levels} levels, pages of {geometry.page_text}" in text
    assert not _OF_X86_64.findall(text)
    page.focus(".map-frame")
    page.keyboard.press("e")
    assert geometry.slot_text in page.inner_text("#tip")


@pytest.mark.parametrize(("page_size", "verdict"), [(1 << 12, "little"), (1 << 16, "much")])
def test_how_bad_it_is_depends_on_bytes(
    page_size: int, verdict: str, page_with: Callable[..., Path], open_page: Open
) -> None:
    kernel = document_of(open_page(page_with()))["processes"][0]["kernel"]
    now = document_of(open_page(page_with()))["processes"][0]["now"]
    made = page_with(
        kernel=kernel | {"page_size": page_size}, now=now | {"empty": 60, "pte_pages": 100}
    )
    assert verdict in str(open_page(made).get_attribute("#finding", "class"))
