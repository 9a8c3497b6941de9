# SPDX-License-Identifier: GPL-2.0-only
"""Debian's chromium, driven by playwright, for tests, benchmarks and screenshots of the page."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright

__all__ = ("CHROMIUM", "WAIT_MS", "chromium", "ready")

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
WAIT_MS = 120_000
"""Patience with a page, for machines that do much else."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window, for the `with` block."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=arguments, timeout=WAIT_MS
        )
        try:
            yield browser
        finally:
            browser.close()


def ready(page: Page, url: str) -> Page:
    """The page, once it has drawn the data of this address."""
    page.set_default_timeout(WAIT_MS)
    page.goto(url)
    page.wait_for_selector("html[data-ready]", state="attached")
    return page
