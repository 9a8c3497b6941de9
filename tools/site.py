# SPDX-License-Identifier: GPL-2.0-only
"""The hook of mkdocs.yml: fills in the generated parts of pages, and adds the JSON Schema."""

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from shadow.json_schema import FILE, published
from tools.reference import fill

__all__ = ("on_files", "on_page_markdown")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Publish the schema next to the page that describes it."""
    files.append(File.generated(config, f"reference/{FILE.name}", content=published()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the generated parts of a page."""
    return fill(markdown)
