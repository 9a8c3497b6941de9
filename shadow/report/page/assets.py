# SPDX-License-Identifier: GPL-2.0-only
"""The scripts and styles of a page, and the policy that allows these and no others."""

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

__all__ = ("Assets", "assets")

_LIBRARIES = ("uplot", "d3-hierarchy")
_IMPORT = re.compile(r'^import\s[^;]*?from "\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class) )", re.MULTILINE)


@dataclass(frozen=True)
class Assets:
    """Everything that a page runs.

    Attributes:
        scripts: the libraries, each as it was published.
        module: the page's own script.
        styles: the style sheets.
        licences: the licence of each library, by its name; copies must include it.
    """

    scripts: tuple[str, ...]
    module: str
    styles: tuple[str, ...]
    licences: dict[str, str]

    def policy(self, *, connect: bool) -> str:
        """The Content-Security-Policy of a page.

        Args:
            connect: whether the page may fetch data from its own server.
        """
        return "; ".join(
            [
                "default-src 'none'",
                f"script-src {_sources((*self.scripts, self.module))}",
                f"style-src {_sources(self.styles)}",
                "img-src data:",
                *(["connect-src 'self'"] if connect else []),
                "base-uri 'none'",
                "form-action 'none'",
                "require-trusted-types-for 'script'",
            ]
        )


def _sources(texts: tuple[str, ...]) -> str:
    digests = (hashlib.sha256(text.encode()).digest() for text in texts)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


@cache
def assets() -> Assets:
    """The scripts and styles of this version."""
    folder = files(__package__).joinpath("static")
    libraries = folder.joinpath("libraries")
    return Assets(
        scripts=tuple(_text(libraries.joinpath(f"{name}.js")) for name in _LIBRARIES),
        licences={name: _text(libraries.joinpath(f"{name}.LICENSE")) for name in _LIBRARIES},
        module=_joined(folder.joinpath("js")),
        styles=(
            _text(libraries.joinpath("uplot.css")),
            "\n".join(
                _text(each)
                for each in sorted(folder.joinpath("css").iterdir(), key=lambda each: each.name)
            ),
        ),
    )


def _text(file: Traversable) -> str:
    return file.read_text("utf-8")


def _joined(folder: Traversable) -> str:
    """The modules of the page as one: each after those that it imports, without the imports.

    A page from a file cannot import modules from elsewhere. All names of the modules are distinct,
    or the browser rejects the script.
    """
    parts: dict[str, str] = {}

    def add(name: str) -> None:
        if name not in parts:
            parts[name] = ""  # modules may import each other
            text = _text(folder.joinpath(name))
            for imported in _IMPORT.findall(text):
                add(imported)
            del parts[name]
            parts[name] = _EXPORT.sub("", _IMPORT.sub("", text))

    add("main.js")
    return "\n".join(parts.values())
